import DTLSPrimitives

/// What a loop tells.
protocol SocketLoopHandler: AnyObject, Sendable {
    /// A datagram came. The bytes are valid only during the call, which is made in a wake-up of the loop.
    ///
    /// - Parameters:
    ///   - local: The address that the peer addressed; nil when the socket has only one.
    ///   - loop: Who calls.
    func receive(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        on loop: SocketLoop,
        now: Moment
    )

    /// The network reported that an earlier datagram did not arrive. Called in a wake-up of the loop.
    func networkReported(_ error: NetworkError, now: Moment)

    /// The socket cannot be used any more. Called in a wake-up of the loop.
    func socketFailed(_ error: DtlsError, of loop: SocketLoop)
}

/// One socket and what drives it, one thing at a time: reads, timers, and writes that had to wait.
///
/// What is sent in a wake-up leaves together at its end.
///
/// `@unchecked Sendable`: what is not constant and does not lock itself is touched in wake-ups alone, and in what the
/// driver performs.
final class SocketLoop: @unchecked Sendable {
    /// How many datagrams one wake-up handles, so that timers and waiting writes get their turn in a flood.
    static let datagramsPerWakeup = 128

    /// From how many messages of one read on it is likely that more have come meanwhile.
    private static let muchAtOnce = 4

    /// How many messages one read takes. Each may be of many datagrams, and has a buffer as large; memory that is not
    /// written to costs nothing, but a machine may have thousands of clients.
    enum Appetite: Int {
        case server = 32
        case client = 8
    }

    let socket: UDPSocket
    let executor: LoopExecutor

    // Not weak, like all that is retained for each datagram: that would be slower from then on.
    private var handler: (any SocketLoopHandler)?
    private let events: any SocketEvents
    private var hasStarted = false
    private var isReading = false
    private var isShutDown = false
    private var scheduler = DeadlineScheduler<Association>()
    private let batch: DatagramBatch
    /// Whether a block is on its way that handles the rest of the batch.
    private var isContinuing = false
    // Unchecked, as it is asked for each datagram that comes alone: it calls nobody.
    @exclusivity(unchecked) private var secondLook = SecondLook()
    /// Readers for whom something has come in the batch under way. Unchecked like the look: what is called while they
    /// are visited only marks tasks as ready.
    @exclusivity(unchecked) private var deliveries: [Inbox.Delivery] = []
    /// Where a datagram's payload is opened to, and lent from; for what runs in a wake-up.
    let plaintext: UnsafeMutableRawBufferPointer
    private let room = Lock(Waiters<Bool>())
    private let ending = Lock(Ending())

    private struct Ending {
        var hasEnded = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    init(socket: UDPSocket, executor: LoopExecutor, appetite: Appetite = .server) {
        self.socket = socket
        self.executor = executor
        events = executor.driver.makeEvents(of: socket)
        batch = DatagramBatch(
            capacity: appetite.rawValue,
            localPort: socket.localAddress.port,
            readsMany: socket.offload.receivesMany,
            groupsHandshakes: appetite == .server
        )
        plaintext = .allocate(byteCount: DatagramBatch.bufferSize, alignment: 16)
    }

    deinit {
        plaintext.deallocate()
    }

    /// Starts reading. The handler is retained until the loop is shut down.
    func start(_ handler: any SocketLoopHandler) {
        executor.driver.perform {
            guard !self.isShutDown else { return }
            self.handler = handler
            self.executor.loop = self
            self.isReading = true
            self.hasStarted = true
            self.events.start(self)
            // The socket lets go of both when it is closed.
            self.socket.setBacklogHandler { self.perform { self.startWriting() } }
            self.socket.setErrorHandler { self.perform { self.readNetworkErrors(now: .now) } }
        }
    }

    /// Calls `body` in a wake-up of its own, behind what is there. From any thread.
    func perform(_ body: @escaping @Sendable () -> Void) {
        executor.driver.perform { self.wakeUp { body() } }
    }

    /// Calls `body` in a wake-up: this one, or one of its own. From any thread.
    func performAwake(_ body: @escaping @Sendable () -> Void) {
        if executor.isAwake { body() } else { perform(body) }
    }

    // MARK: Wake-ups

    /// Does what the loop was woken for, then what that has made ready; what is sent meanwhile leaves at the end.
    func wakeUp(_ body: () -> Void) {
        socket.beginGathering()
        executor.run {
            body()
            carryOutDeliveries()
        }
        socket.sendGathered()
        socket.endGathering()
    }

    /// Ends a wake-up, or the part of one that a batch was: what has become ready runs, and what has been sent leaves.
    private func finishWakeUp() {
        executor.runReady()
        socket.sendGathered()
    }

    /// Has a reader go on, behind the batch that is being handled: one that went on at once, on another thread, would
    /// have read the one payload and wait again before the next one is opened, and be woken for each of them.
    func deliver(_ delivery: Inbox.Delivery) {
        guard executor.isAwake else { return delivery.carryOut() }
        deliveries.append(delivery)
    }

    /// Has all go on for whom something has come: at the end of a batch, and before anything that came behind theirs is
    /// told to others. In a wake-up.
    func carryOutDeliveries() {
        guard !deliveries.isEmpty else { return }
        for delivery in deliveries { delivery.carryOut() }
        deliveries.removeAll(keepingCapacity: deliveries.count <= Self.datagramsPerWakeup)
    }

    // MARK: Reading

    /// Reads nothing any more: what comes waits in the socket. Returns when everything that was read has been handled.
    func stopReading() async {
        await withCheckedContinuation { continuation in
            perform {
                self.handleBatch(atMost: .max, now: .now)
                self.isReading = false
                self.events.stopReading()
                continuation.resume()
            }
        }
    }

    private func readDatagrams() {
        var now = Moment.now
        guard handler != nil, isReading else { return readNetworkErrors(now: now) }
        // Behind what seals and opens, so that whoever has just looked looks once more.
        defer { IdleCiphers.noteActivity() }
        var room = Self.datagramsPerWakeup - handleBatch(atMost: Self.datagramsPerWakeup, now: now)
        var isFirst = true
        var isSecondLook = false
        while room > 0, !isShutDown {
            defer { isFirst = false }
            let outcome = socket.receive(into: batch)
            if isSecondLook {
                if case .datagrams = outcome { secondLook.found(true) } else { secondLook.found(false) }
                now = .now
            }
            isSecondLook = false
            switch outcome {
            case .datagrams:
                room -= handleBatch(atMost: room, now: now)
                finishWakeUp()
                // To look costs less than to be woken by Dispatch. It may cost more than to be woken by epoll, unless
                // much is coming.
                if events.wakesCheaply, batch.isEmpty, batch.messageCount < Self.muchAtOnce {
                    guard secondLook.isWorthwhile() else { return }
                    isSecondLook = true
                }
            case .retry:
                // Perhaps for an error, of which the queue says more. Read, it does not wake the loop again.
                readNetworkErrors(now: now)
                room -= 1
            case .wouldBlock:
                // Woken for nothing but an error, which a send elsewhere may have taken the notice of.
                if isFirst { readNetworkErrors(now: now) }
                return
            case .failed(let code):
                return fail(code)
            }
        }
        continueLater()
    }

    private func fail(_ code: Int32, as what: String = "read") {
        let message = "the socket cannot be \(what): \(SystemCall.description(of: code))"
        handler?.socketFailed(
            DtlsError(.socketFailed, phase: .established, message, systemError: code),
            of: self
        )
    }

    /// Hands on what was read. Returns how many datagrams that were.
    @discardableResult
    private func handleBatch(atMost limit: Int, now: Moment) -> Int {
        guard let handler else { return 0 }
        var count = 0
        while count < limit, !isShutDown, let datagram = batch.next() {
            handler.receive(datagram, from: batch.source, to: batch.local, on: self, now: now)
            count += 1
        }
        carryOutDeliveries()
        return count
    }

    /// Has the rest of a batch handled when all others had their turn: nothing in the socket may wake the loop for it.
    private func continueLater() {
        guard !batch.isEmpty, !isContinuing, !isShutDown else { return }
        isContinuing = true
        perform {
            self.isContinuing = false
            if !self.batch.isEmpty { self.readDatagrams() }
        }
    }

    private func readNetworkErrors(now: Moment) {
        guard let handler, !isShutDown else { return }
        for error in socket.takeNetworkErrors() { handler.networkReported(error, now: now) }
        // A descriptor that others have closed wakes nobody any more, so only a send has noticed.
        if let code = socket.loss { fail(code, as: "used") }
    }

    // MARK: Writing

    private func startWriting() {
        guard !isShutDown, !socket.flushBacklog() else { return roomAppeared() }
        events.setWaitsForRoom(true)
    }

    private func write() {
        guard socket.flushBacklog() else { return }
        events.setWaitsForRoom(false)
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
    func schedule(_ association: Association, at deadline: Moment) {
        if executor.isAwake { return add(association, at: deadline) }
        executor.driver.perform { self.add(association, at: deadline) }
    }

    private func add(_ association: Association, at deadline: Moment) {
        guard !isShutDown else { return }
        // Let go of behind the access: with them may go objects that call this loop.
        let ended = scheduler.removeEnded()
        setTimer(scheduler.add(association, at: deadline, now: .now))
        _ = ended
    }

    private func handleDeadlines() {
        guard !isShutDown else { return }
        let now = Moment.now
        while let association = scheduler.popDue(now: now) { association.handleTimeout(now: now) }
        setTimer(scheduler.timerFired(now: now))
    }

    private func setTimer(_ delay: Duration?) {
        if let delay { events.setTimer(delay) }
    }

    // MARK: Ending

    /// Stops everything, then closes or gives back the descriptor. From any thread, any number of times.
    func shutDown() {
        executor.driver.perform {
            guard !self.isShutDown else { return }
            self.isShutDown = true
            self.handler = nil
            if self.executor.loop === self { self.executor.loop = nil }
            self.scheduler = DeadlineScheduler()
            self.events.stop()
            if !self.hasStarted { self.ended() }
        }
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

extension SocketLoop: SocketObserver {
    func socketReadable() { wakeUp { readDatagrams() } }
    func socketWritable() { wakeUp { write() } }
    func timerFired() { wakeUp { handleDeadlines() } }
    func eventsFailed(_ error: Int32) { fail(error) }
    func eventsEnded() { ended() }
}
