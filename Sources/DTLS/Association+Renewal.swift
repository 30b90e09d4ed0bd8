import DTLSPrimitives

// A client's second handshake with a server that has fallen silent (DtlsReconnection).

extension Association {
    func beginAnew(
        _ state: inout State,
        _ effects: inout Effects,
        _ renewal: Renewal,
        now: Moment
    ) {
        guard let engine = state.engine, engine.isOpen else { return }
        do throws(DtlsError) {
            // A server that has answered a session with an alert may take a full handshake.
            state.successor = try renewal.makeEngine(state.failedRenewals == 0 ? engine.session : nil)
            state.generation += 1
        } catch {
            return effects.merge(collect(&state) { $0.close(as: .failed(error)) })
        }
        renew(&state, &effects) { $0.start(at: now) }
    }

    /// Runs one input of the successor, which takes the engine's place when its handshake is finished. The association
    /// ends when nobody answers it, or when too many in a row have failed.
    func renew(_ state: inout State, _ effects: inout Effects, _ body: (DtlsEngine) -> Void) {
        guard let successor = state.successor else { return }
        body(successor)
        transmit(successor, &state) { _ in }
        while let event = successor.nextEvent() {
            switch event {
            case .preSharedKeyRequested(let request):
                effects.question = .preSharedKey(request)
                effects.asker = state.generation
            case .certificatesPresented(let certificates):
                effects.question = .certificates(certificates)
                effects.asker = state.generation
            case .handshakeFinished(let negotiated):
                let former = state.engine
                former?.abandon()
                state.addToPast { past in
                    if let former {
                        past.add(former.statistics)
                        // The successor goes on with the count of what came to both.
                        past.datagramsReceived -= successor.statistics.datagramsReceived
                        past.bytesReceived -= successor.statistics.bytesReceived
                    }
                    past.reconnections += 1
                }
                state.engine = successor
                state.successor = nil
                state.awaitedSince = nil
                state.failedRenewals = 0
                state.negotiated = negotiated
                state.maximumPayloadSize = successor.maximumPayloadSize
                state.lastActivity = .now
                effects.isRenewed = true
                // What came with the Finished is the new association's.
                return effects.merge(collect(&state) { _ in })
            case .closed(let reason):
                dropSuccessor(&state)
                state.failedRenewals += 1
                var isSilent = false
                if case .failed(let error) = reason { isSilent = error.code == .handshakeTimedOut }
                guard isSilent || state.failedRenewals >= Self.maximumFailedRenewals else {
                    // Whatever ended it may have been forged, which must not end what is authentic: another try in a
                    // while.
                    state.awaitedSince = .now
                    return schedule(silenceDeadline(state), &state, &effects)
                }
                return effects.merge(collect(&state) { $0.close(as: reason) })
            case .helloReceived, .sessionEstablished, .applicationData:
                // A server's, or not before the handshake is finished.
                break
            }
        }
        schedule(successor.deadline, &state, &effects)
    }

    /// How many handshakes in a row may fail before the association is given up.
    private static let maximumFailedRenewals = 3

    /// Forgets the successor, but not what it has counted. What came was counted by the engine, too.
    func dropSuccessor(_ state: inout State) {
        guard let successor = state.successor else { return }
        state.successor = nil
        if successor.closeReason == nil { successor.abandon() }
        state.addToPast { $0.add(successor.statistics.withoutReceived) }
    }

    /// Answers whoever asked: the successor, if there is one. An answer to a handshake that has been given up is
    /// nobody's: it must not speak for another one's certificates.
    func reply(to asker: Int, _ body: (DtlsEngine) -> Void) {
        let effects = state.withLock { state in
            guard asker == state.generation else { return Effects() }
            guard state.successor != nil else { return collect(&state, body) }
            var effects = Effects()
            renew(&state, &effects, body)
            return effects
        }
        carryOut(effects)
    }
}
