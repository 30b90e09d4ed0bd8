// Payloads on their way out, and what the socket says of datagrams.

extension Association {
    /// Seals and sends a payload. `false`: the socket has no room, nothing was sealed.
    func trySend(_ payload: UnsafeRawBufferPointer) throws(DtlsError) -> Bool {
        var result = Result<Bool, DtlsError>.success(true)
        let effects = state.withLock { state -> Effects in
            guard let engine = state.engine else {
                result = .failure(Self.closedError(state.closeReason))
                return Effects()
            }
            guard engine.isOpen, owner.loop.socket.hasRoom else {
                if engine.isOpen { result = .success(false) } else { result = .failure(Self.closedError(nil)) }
                return Effects()
            }
            var effects = collect(&state, sendFailure: { result = .failure($0) }) { engine in
                do throws(DtlsError) {
                    try engine.send(payload)
                } catch {
                    result = .failure(error)
                }
            }
            guard case .success = result else { return effects }
            state.lastActivity = .now
            if renewal != nil, state.awaitedSince == nil {
                state.awaitedSince = state.lastActivity
                schedule(silenceDeadline(state), &state, &effects)
            }
            return effects
        }
        carryOut(effects)
        return try result.get()
    }

    static func closedError(_ reason: DtlsCloseReason?) -> DtlsError {
        if case .failed(let error)? = reason { return error }
        let what = reason.map { "the connection was \($0)" } ?? "the connection is not open"
        return DtlsError(.connectionClosed, phase: .established, what)
    }

    /// Hands what the engine has to send to the socket. With the association's lock held.
    func transmit(_ engine: DtlsEngine, _ state: inout State, _ sendFailure: (DtlsError) -> Void) {
        engine.drainOutboundBytes { datagram in
            switch owner.loop.socket.send(datagram, to: peer) {
            case .sent, .queued:
                break
            case .dropped:
                state.sendsDropped += 1
            case .failed(let code):
                state.sendFailures += 1
                sendFailure(Self.sendError(code, datagram.count))
            }
        }
    }

    private static func sendError(_ code: Int32, _ count: Int) -> DtlsError {
        DtlsError(
            code == SystemCall.messageTooLarge ? .payloadTooLarge : .socketFailed,
            phase: .established,
            "a datagram of \(count) bytes could not be sent: \(SystemCall.description(of: code))",
            hint: code == SystemCall.messageTooLarge ? "lower the configuration's mtu" : nil,
            systemError: code
        )
    }
}
