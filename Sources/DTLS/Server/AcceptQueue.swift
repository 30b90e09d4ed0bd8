import DequeModule

/// Connections whose handshake is finished, and those who wait for them.
final class AcceptQueue: Sendable {
    /// How many connections wait for the application; one more is closed.
    private let maximumCount: Int
    private let state = Lock(State())

    init(maximumCount: Int) {
        self.maximumCount = maximumCount
    }

    private struct State {
        var connections = Deque<DtlsConnection>()
        var waiters = Waiters<DtlsConnection?>()
        var hasEnded = false
    }

    /// Hands a connection to the application. `false`: it has ended, or too many wait.
    ///
    /// - Parameter isLimited: Whether there may be too many.
    func add(_ connection: DtlsConnection, isLimited: Bool = true) -> Bool {
        var waiter: UnsafeContinuation<DtlsConnection?, Never>?
        let isTaken = state.withLock { state in
            if state.hasEnded { return false }
            waiter = state.waiters.popFirst()
            if waiter == nil {
                guard !isLimited || state.connections.count < maximumCount else { return false }
                state.connections.append(connection)
            }
            return true
        }
        waiter?.resume(returning: connection)
        return isTaken
    }

    /// Waits for a connection; `nil` at the end and when the task was cancelled.
    func next() async -> DtlsConnection? {
        let id = state.withLock { $0.waiters.makeID() }
        return await waitInLine { continuation in
            state.withLock { state -> DtlsConnection?? in
                if let connection = state.connections.popFirst() { return connection }
                if state.hasEnded || Task.isCancelled { return .some(nil) }
                state.waiters.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.waiters.remove(id) }?.resume(returning: nil)
        }
    }

    /// Ends the sequence. Connections that nobody took are returned.
    func end() -> [DtlsConnection] {
        var waiters: [UnsafeContinuation<DtlsConnection?, Never>] = []
        let connections = state.withLock { state -> [DtlsConnection] in
            state.hasEnded = true
            waiters = state.waiters.removeAll()
            defer { state.connections = [] }
            return Array(state.connections)
        }
        for waiter in waiters { waiter.resume(returning: nil) }
        return connections
    }
}
