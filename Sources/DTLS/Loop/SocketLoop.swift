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
/// `@unchecked Sendable`: `sources`, `scheduler`, `buffer` and `handler` are touched on `queue` alone; the rest is
/// constant or locks itself.
final class SocketLoop: @unchecked Sendable {
    /// How many datagrams one wake-up reads, so that timers and waiting writes get their turn in a flood.
    static let datagramsPerWakeup = 64

    /// No UDP payload is larger.
    static let bufferSize = 65_536

    let socket: UDPSocket
    let queue: DispatchQueue

    private weak var handler: (any SocketLoopHandler)?
    private var reader: (any DispatchSourceRead)?
    private var writer: (any DispatchSourceWrite)?
    private var timer: (any DispatchSourceTimer)?
    private var liveSources = 0
    private var isShutDown = false
    private var scheduler = DeadlineScheduler<Association>()
    private let buffer: UnsafeMutableRawBufferPointer
    /// Where a datagram's payload is opened to, and lent from; for what runs on the loop's queue.
    let plaintext: UnsafeMutableRawBufferPointer
    private let room = Lock(Waiters<Bool>())
    private let ending = Lock(Ending())

    private struct Ending {
        var hasEnded = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    init(socket: UDPSocket, label: String) {
        self.socket = socket
        queue = DispatchQueue(label: label)
        buffer = .allocate(byteCount: Self.bufferSize, alignment: 16)
        plaintext = .allocate(byteCount: Self.bufferSize, alignment: 16)
    }

    deinit {
        buffer.deallocate()
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
        reader.setEventHandler { [unowned self] in self.readDatagrams() }
        self.reader = reader
        keep(reader)

        let timer = DispatchSource.makeTimerSource(queue: queue)
        timer.setEventHandler { [unowned self] in self.timerFired() }
        self.timer = timer
        keep(timer)

        socket.setBacklogHandler { [weak self] in
            guard let self else { return }
            self.queue.async { self.startWriting() }
        }
        socket.setErrorHandler { [weak self] in
            guard let self else { return }
            self.queue.async { self.readNetworkErrors(now: .now) }
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
        queue.async { body() }
    }

    // MARK: Reading

    /// Reads nothing any more: what comes waits in the socket. Returns when everything that was read has been handled.
    func stopReading() async {
        await withCheckedContinuation { continuation in
            queue.async {
                self.reader?.cancel()
                self.reader = nil
                continuation.resume()
            }
        }
    }

    private func readDatagrams() {
        guard let handler, reader != nil else { return }
        let now = ContinuousClock.now
        for index in 0..<Self.datagramsPerWakeup {
            switch socket.receive(into: buffer) {
            case .datagram(let count, let source, let local):
                handler.receive(
                    UnsafeRawBufferPointer(rebasing: buffer[..<count]),
                    from: source,
                    to: local,
                    on: self,
                    now: now
                )
                if isShutDown { return }
            case .retry:
                // Perhaps for an error, of which the queue says more. Read, it does not wake the loop again.
                readNetworkErrors(now: now)
            case .wouldBlock:
                // Woken for nothing but an error, which a send elsewhere may have taken the notice of.
                if index == 0 { readNetworkErrors(now: now) }
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
    }

    private func readNetworkErrors(now: ContinuousClock.Instant) {
        guard let handler, !isShutDown else { return }
        for error in socket.takeNetworkErrors() { handler.networkReported(error, now: now) }
    }

    // MARK: Writing

    private func startWriting() {
        guard writer == nil, !isShutDown, !socket.flushBacklog() else { return roomAppeared() }
        let writer = DispatchSource.makeWriteSource(fileDescriptor: socket.descriptor, queue: queue)
        writer.setEventHandler { [unowned self] in
            guard self.socket.flushBacklog() else { return }
            self.writer?.cancel()
            self.writer = nil
            self.roomAppeared()
        }
        self.writer = writer
        keep(writer)
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
