import Dispatch

/// What a loop tells.
protocol SocketLoopHandler: AnyObject, Sendable {
    /// A datagram came. The bytes are valid only during the call, which is made on the loop's queue.
    ///
    /// - Parameters:
    ///   - local: The address that the peer addressed; nil when the socket has only one.
    ///   - loop: Who calls.
    func receive(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        on loop: SocketLoop,
        now: ContinuousClock.Instant
    )

    /// The network reported that an earlier datagram did not arrive. Called on the loop's queue.
    func networkReported(_ error: NetworkError, now: ContinuousClock.Instant)

    /// The socket cannot be read any more. Called on the loop's queue.
    func socketFailed(_ error: DtlsError, of loop: SocketLoop)
}

/// A serial queue with one socket: reads, timers, and writes that had to wait.
///
/// What is sent on the queue while it is awake leaves together at the end of the wake-up.
///
/// `@unchecked Sendable`: `sources`, `scheduler`, `batch` and `handler` are touched on `queue` alone; the rest is
/// constant or locks itself.
final class SocketLoop: @unchecked Sendable {
    /// How many datagrams one wake-up handles, so that timers and waiting writes get their turn in a flood.
    static let datagramsPerWakeup = 128

    /// How many messages one read takes. Each may be of many datagrams, and has a buffer as large; memory that is not
    /// written to costs nothing, but a machine may have thousands of clients.
    enum Appetite: Int {
        case server = 32
        case client = 8
    }

    let socket: UDPSocket
    let queue: DispatchQueue

    private weak var handler: (any SocketLoopHandler)?
    private var reader: (any DispatchSourceRead)?
    private var writer: (any DispatchSourceWrite)?
    private var timer: (any DispatchSourceTimer)?
    private var liveSources = 0
    private var isShutDown = false
    private var scheduler = DeadlineScheduler<Association>()
    private let batch: DatagramBatch
    /// Whether a block is on its way that handles the rest of the batch.
    private var isContinuing = false
    /// Where a datagram's payload is opened to, and lent from; for what runs on the loop's queue.
    let plaintext: UnsafeMutableRawBufferPointer
    private let room = Lock(Waiters<Bool>())
    private let ending = Lock(Ending())

    private struct Ending {
        var hasEnded = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    init(socket: UDPSocket, label: String, appetite: Appetite = .server) {
        self.socket = socket
        queue = DispatchQueue(label: label)
        batch = DatagramBatch(
            capacity: appetite.rawValue,
            localPort: socket.localAddress.port,
            readsMany: socket.offload.receivesMany
        )
        plaintext = .allocate(byteCount: DatagramBatch.bufferSize, alignment: 16)
    }

    deinit {
        plaintext.deallocate()
    }

    /// Starts reading. The handler is not retained.
    func start(_ handler: any SocketLoopHandler) {
        queue.async { [weak handler] in
            guard let handler, !self.isShutDown else { return }
            self.handler = handler
            self.startSources()
        }
    }

    private func startSources() {
        let reader = DispatchSource.makeReadSource(fileDescriptor: socket.readiness, queue: queue)
        reader.setEventHandler { [unowned self] in self.wakeUp { self.readDatagrams() } }
        self.reader = reader
        keep(reader)

        let timer = DispatchSource.makeTimerSource(queue: queue)
        timer.setEventHandler { [unowned self] in self.wakeUp { self.timerFired() } }
        self.timer = timer
        keep(timer)

        socket.setBacklogHandler { [weak self] in
            guard let self else { return }
            self.queue.async { self.wakeUp { self.startWriting() } }
        }
        socket.setErrorHandler { [weak self] in
            guard let self else { return }
            self.queue.async { self.wakeUp { self.readNetworkErrors(now: .now) } }
        }
    }

    /// Activates a source and counts it until its cancel handler has run: only then may the descriptor be closed.
    private func keep(_ source: any DispatchSourceProtocol) {
        liveSources += 1
        // Retains the loop for as long as a source is alive, so that the event handlers' `unowned` holds.
        source.setCancelHandler { self.sourceEnded() }
        source.activate()
    }

    /// Calls `body` on the queue, behind what is there. From any thread.
    func perform(_ body: @escaping @Sendable () -> Void) {
        queue.async { self.wakeUp { body() } }
    }

    // MARK: Wake-ups

    /// Does what the queue was woken for.
    private func wakeUp(_ body: () -> Void) {
        socket.beginGathering()
        body()
        finishWakeUp()
        socket.endGathering()
    }

    /// Whether the caller is on the queue's thread, in the middle of a wake-up.
    var isInWakeUp: Bool { socket.isGathering }

    /// Ends a wake-up, or the part of one that a batch was: what has been sent during it leaves now. Whatever else is to
    /// be done at the end has its place before that.
    private func finishWakeUp() {
        socket.sendGathered()
    }

    // MARK: Reading

    /// Reads nothing any more: what comes waits in the socket. Returns when everything that was read has been handled.
    func stopReading() async {
        await withCheckedContinuation { continuation in
            queue.async {
                self.wakeUp { self.handleBatch(atMost: .max, now: .now) }
                self.reader?.cancel()
                self.reader = nil
                continuation.resume()
            }
        }
    }

    private func readDatagrams() {
        guard let handler, reader != nil else { return }
        let now = ContinuousClock.now
        var room = Self.datagramsPerWakeup - handleBatch(atMost: Self.datagramsPerWakeup, now: now)
        var isFirst = true
        while room > 0, !isShutDown {
            defer { isFirst = false }
            switch socket.receive(into: batch) {
            case .datagrams:
                room -= handleBatch(atMost: room, now: now)
                // Before the socket is looked at again: a peer nearby may answer at once, and to be woken for that costs
                // more than to look, as it does for what has come meanwhile.
                finishWakeUp()
            case .retry:
                // Perhaps for an error, of which the queue says more. Read, it does not wake the loop again.
                readNetworkErrors(now: now)
                room -= 1
            case .wouldBlock:
                // Woken for nothing but an error, which a send elsewhere may have taken the notice of.
                if isFirst { readNetworkErrors(now: now) }
                return
            case .failed(let code):
                let message = "the socket cannot be read: \(SystemCall.description(of: code))"
                handler.socketFailed(
                    DtlsError(.socketFailed, phase: .established, message, systemError: code),
                    of: self
                )
                return
            }
        }
        continueLater()
    }

    /// Hands on what was read. Returns how many datagrams that were.
    @discardableResult
    private func handleBatch(atMost limit: Int, now: ContinuousClock.Instant) -> Int {
        guard let handler else { return 0 }
        var count = 0
        while count < limit, !isShutDown, let datagram = batch.next() {
            handler.receive(datagram, from: batch.source, to: batch.local, on: self, now: now)
            count += 1
        }
        return count
    }

    /// Has the rest of a batch handled when all others had their turn: nothing in the socket may wake the loop for it.
    private func continueLater() {
        guard !batch.isEmpty, !isContinuing, !isShutDown else { return }
        isContinuing = true
        queue.async {
            self.isContinuing = false
            if !self.batch.isEmpty { self.wakeUp { self.readDatagrams() } }
        }
    }

    private func readNetworkErrors(now: ContinuousClock.Instant) {
        guard let handler, !isShutDown else { return }
        for error in socket.takeNetworkErrors() { handler.networkReported(error, now: now) }
    }

    // MARK: Writing

    private func startWriting() {
        guard writer == nil, !isShutDown, !socket.flushBacklog() else { return roomAppeared() }
        let writer = DispatchSource.makeWriteSource(fileDescriptor: socket.descriptor, queue: queue)
        writer.setEventHandler { [unowned self] in self.wakeUp { self.write() } }
        self.writer = writer
        keep(writer)
    }

    private func write() {
        guard socket.flushBacklog() else { return }
        writer?.cancel()
        writer = nil
        roomAppeared()
    }

    private func roomAppeared() {
        guard isShutDown || socket.hasRoom else { return }
        for waiter in room.withLock({ $0.removeAll() }) { waiter.resume(returning: true) }
    }

    /// Waits until the kernel takes datagrams again, or the loop has ended. Returns `false` when the task was
    /// cancelled.
    func waitForRoom() async -> Bool {
        let id = room.withLock { $0.makeID() }
        return await waitInLine { continuation in
            room.withLock { waiters in
                if Task.isCancelled { return false }
                if socket.hasRoom || ending.withLock({ $0.hasEnded }) { return true }
                waiters.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.room.withLock { $0.remove(id) }?.resume(returning: false)
        }
    }

    // MARK: Deadlines

    /// Has `association.handleTimeout` called at `deadline`. From any thread.
    func schedule(_ association: Association, at deadline: ContinuousClock.Instant) {
        queue.async {
            guard !self.isShutDown else { return }
            self.setTimer(self.scheduler.add(association, at: deadline, now: .now))
        }
    }

    private func timerFired() {
        guard !isShutDown else { return }
        let now = ContinuousClock.now
        while let association = scheduler.popDue(now: now) { association.handleTimeout(now: now) }
        setTimer(scheduler.timerFired(now: now))
    }

    private func setTimer(_ delay: Duration?) {
        guard let delay else { return }
        timer?.schedule(deadline: .now() + delay.dispatchInterval, leeway: .milliseconds(1))
    }

    // MARK: Ending

    /// Stops everything, then closes or gives back the descriptor. From any thread, any number of times.
    func shutDown() {
        queue.async {
            guard !self.isShutDown else { return }
            self.isShutDown = true
            self.scheduler = DeadlineScheduler()
            self.reader?.cancel()
            self.writer?.cancel()
            self.timer?.cancel()
            self.reader = nil
            self.writer = nil
            self.timer = nil
            if self.liveSources == 0 { self.ended() }
        }
    }

    private func sourceEnded() {
        liveSources -= 1
        if isShutDown, liveSources == 0 { ended() }
    }

    private func ended() {
        socket.close()
        let waiters = ending.withLock { ending in
            ending.hasEnded = true
            defer { ending.waiters = [] }
            return ending.waiters
        }
        for waiter in waiters { waiter.resume() }
        roomAppeared()
    }

    /// Waits until the descriptor is closed or given back. Not ended by cancellation: the wait is short, and who closes
    /// wants it done.
    func waitUntilEnded() async {
        await withCheckedContinuation { continuation in
            let hasEnded = ending.withLock { ending in
                if !ending.hasEnded { ending.waiters.append(continuation) }
                return ending.hasEnded
            }
            if hasEnded { continuation.resume() }
        }
    }
}
