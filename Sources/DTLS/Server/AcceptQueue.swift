import DTLSPrimitives
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
        /// Why it has ended, where nobody wanted it to.
        var failure: DtlsError?
        /// Who gets connections instead of those who wait.
        var handler: (@Sendable (DtlsConnection) -> Void)?
    }

    /// Hands a connection to the application. `false`: it has ended, or too many wait.
    ///
    /// - Parameter isLimited: Whether there may be too many.
    func add(_ connection: DtlsConnection, isLimited: Bool = true) -> Bool {
        var waiter: UnsafeContinuation<DtlsConnection?, Never>?
        var handler: (@Sendable (DtlsConnection) -> Void)?
        let isTaken = state.withLock { state in
            if state.hasEnded { return false }
            handler = state.handler
            if handler != nil { return true }
            waiter = state.waiters.popFirst()
            if waiter == nil {
                guard !isLimited || state.connections.count < maximumCount else { return false }
                state.connections.append(connection)
            }
            return true
        }
        waiter?.resume(returning: connection)
        if let handler { Self.hand(connection, to: handler) }
        return isTaken
    }

    /// Hands connections over from now on, those first that wait.
    func setHandler(_ handler: @escaping @Sendable (DtlsConnection) -> Void) {
        let (waiting, former) = state.withLock { state in
            defer {
                state.connections = []
                if !state.hasEnded { state.handler = handler }
            }
            return (state.connections, state.handler)
        }
        // Outside of the lock: with it may go an object that calls the server.
        _ = former
        for connection in waiting { Self.hand(connection, to: handler) }
    }

    private static func hand(_ connection: DtlsConnection, to handler: @escaping @Sendable (DtlsConnection) -> Void) {
        connection.association.owner.loop.performAwake { handler(connection) }
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

    var failure: DtlsError? { state.withLock { $0.failure } }

    /// Ends the sequence, for `failure` if nothing has ended it before. Connections that nobody took are returned.
    func end(_ failure: DtlsError?) -> Deque<DtlsConnection> {
        var waiters: [UnsafeContinuation<DtlsConnection?, Never>] = []
        let (connections, handler) = state.withLock { state in
            if !state.hasEnded { state.failure = failure }
            state.hasEnded = true
            waiters = state.waiters.removeAll()
            defer {
                state.connections = []
                state.handler = nil
            }
            return (state.connections, state.handler)
        }
        _ = handler
        for waiter in waiters { waiter.resume(returning: nil) }
        return connections
    }
}
