// A client's second handshake with a server that has fallen silent (DtlsReconnection).

extension Association {
    func beginAnew(
        _ state: inout State,
        _ effects: inout Effects,
        _ renewal: Renewal,
        now: ContinuousClock.Instant
    ) {
        guard let engine = state.engine, engine.isOpen else { return }
        do throws(DtlsError) {
            state.successor = try renewal.makeEngine(engine.session)
        } catch {
            return effects.merge(collect(&state) { $0.close(as: .failed(error)) })
        }
        renew(&state, &effects) { $0.start(now: now) }
    }

    /// Runs one input of the successor, which takes the engine's place when its handshake is finished and ends the association when that
    /// fails.
    func renew(_ state: inout State, _ effects: inout Effects, _ body: (DtlsEngine) -> Void) {
        guard let successor = state.successor else { return }
        body(successor)
        transmit(successor, &state) { _ in }
        while let event = successor.nextEvent() {
            switch event {
            case .preSharedKeyRequested(let request):
                effects.question = .preSharedKey(request)
            case .certificatesPresented(let certificates):
                effects.question = .certificates(certificates)
            case .handshakeFinished(let negotiated):
                if let former = state.engine {
                    former.abandon()
                    state.past.add(former.statistics)
                }
                state.past.reconnections += 1
                state.engine = successor
                state.successor = nil
                state.awaitedSince = nil
                state.negotiated = negotiated
                state.maximumPayloadSize = successor.maximumPayloadSize
                state.lastActivity = .now
                // What came with the Finished is the new association's.
                return effects.merge(collect(&state) { _ in })
            case .closed(let reason):
                state.successor = nil
                state.past.add(successor.statistics)
                return effects.merge(collect(&state) { $0.close(as: reason) })
            case .helloReceived, .sessionEstablished, .applicationData:
                // A server's, or not before the handshake is finished.
                break
            }
        }
        schedule(successor.nextDeadline, &state, &effects)
    }

    /// Answers whoever asked: the successor, if there is one.
    func reply(_ body: (DtlsEngine) -> Void) {
        let effects = state.withLock { state in
            guard state.successor != nil else { return collect(&state, body) }
            var effects = Effects()
            renew(&state, &effects, body)
            return effects
        }
        carryOut(effects)
    }
}
