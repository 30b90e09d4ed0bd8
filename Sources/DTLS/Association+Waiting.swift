import DTLSPrimitives

// Tasks that wait for the handshake, for a payload or for the end.

extension Association {
    /// Waits until the handshake is finished.
    func waitUntilOpen() async throws(DtlsError) {
        let id = state.withLock { $0.makeWaiting().openers.makeID() }
        let result = await waitInLine { continuation in
            state.withLock { state -> Result<Void, DtlsError>? in
                if Task.isCancelled { return .failure(Self.cancelledInHandshake) }
                if let reason = state.closeReason { return .failure(Self.handshakeError(reason)) }
                if state.negotiated != nil { return .success(()) }
                state.waiting?.openers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.waiting?.openers.remove(id) }?.resume(
                returning: .failure(Self.cancelledInHandshake)
            )
        }
        try result.get()
    }

    static var cancelledInHandshake: DtlsError {
        DtlsError(.cancelled, phase: .handshake, "the task was cancelled while it waited for the handshake")
    }

    /// Takes a payload that is there, for no more than a lock; nothing for a task that was cancelled.
    func takePayload() -> [UInt8]? {
        state.withLock { Task.isCancelled ? nil : $0.inbox.takePayload() }
    }

    /// Waits for a payload; `nil` at the end.
    // Inlined, as each asynchronous function looks up anew where its task is to run, under a lock.
    @inline(__always)
    func nextPayload() async throws(DtlsError) -> [UInt8]? {
        let id = state.withLock { $0.inbox.readers.makeID() }
        let reading = await waitInLine { continuation in
            state.withLock { state -> Inbox.Reading? in
                // Payloads do not keep a task that was cancelled from its end: a peer may send more, and more.
                let isCancelled = Task.isCancelled
                if !isCancelled || state.inbox.isEmpty, let reading = state.inbox.take() { return reading }
                if isCancelled { return .cancelled }
                state.inbox.readers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.inbox.readers.remove(id) }?.resume(returning: .cancelled)
        }
        return try reading.get()
    }

    /// Waits for the end; `nil` when the task was cancelled before.
    func waitUntilClosed() async -> DtlsCloseReason? {
        let id = state.withLock { $0.makeWaiting().closers.makeID() }
        return await waitInLine { continuation in
            state.withLock { state -> DtlsCloseReason?? in
                if let reason = state.closeReason { return reason }
                if Task.isCancelled { return .some(nil) }
                state.waiting?.closers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.waiting?.closers.remove(id) }?.resume(returning: nil)
        }
    }

    /// Waits until the peer is elsewhere; `nil` at the end, and when the task was cancelled before.
    func waitUntilPeer(isNotAt address: DtlsAddress) async -> DtlsAddress? {
        let id = state.withLock { $0.makeWaiting().movers.makeID() }
        return await waitInLine { continuation in
            state.withLock { state -> DtlsAddress?? in
                if state.closeReason != nil || Task.isCancelled { return .some(nil) }
                if state.peer != address { return state.peer }
                state.waiting?.movers.add(id, continuation)
                return nil
            }
        } withdraw: {
            self.state.withLock { $0.waiting?.movers.remove(id) }?.resume(returning: nil)
        }
    }
}
