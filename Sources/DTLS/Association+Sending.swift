import DTLSPrimitives

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

// Payloads on their way out, what becomes of an engine's datagrams at the socket, and what the network says of them.

extension Association {
    /// Seals and sends a payload. `false`: the socket has no room, nothing was sealed.
    func trySend(_ payload: UnsafeRawBufferPointer) throws(DtlsError) -> Bool {
        // Nothing of this but in cases that are rare: it is large.
        var failure: DtlsError?
        var effects: Effects?
        let isSent = state.withLock { state -> Bool in
            guard let engine = state.engine else {
                failure = Self.closedError(state.closeReason)
                return false
            }
            if let isSent = sendShortly(payload, engine, &state, &failure, &effects) { return isSent }
            guard engine.isOpen, owner.loop.socket.hasRoom else {
                if !engine.isOpen { failure = Self.closedError(nil) }
                return false
            }
            var result = collect(&state, sendFailure: { failure = $0 }) { engine in
                do throws(DtlsError) {
                    try engine.send(payload)
                } catch {
                    failure = error
                }
            }
            defer { effects = result }
            guard failure == nil else { return false }
            state.lastActivity = .now
            if renewal != nil, state.awaitedSince == nil {
                state.awaitedSince = state.lastActivity
                schedule(silenceDeadline(state), &state, &result)
            }
            return true
        }
        IdleCiphers.noteActivity()
        if let effects { carryOut(effects) }
        if let failure { throw failure }
        return isSent
    }

    /// Seals a payload where it leaves from, when there is nothing else to look at; nil where there is. Otherwise
    /// whether it was sent.
    private func sendShortly(
        _ payload: UnsafeRawBufferPointer,
        _ engine: DtlsEngine,
        _ state: inout State,
        _ failure: inout DtlsError?,
        _ effects: inout Effects?
    ) -> Bool? {
        guard state.path == nil, state.renewing == nil, engine.isOpen else { return nil }
        let sending = owner.loop.socket.send(upTo: engine.mtu, to: state.peer, from: state.local) { buffer in
            do throws(DtlsError) {
                return try engine.sealApplicationData(payload, into: buffer)
            } catch {
                failure = error
                return nil
            }
        }
        switch sending {
        case .done(let result, let count):
            state.lastActivity = .now
            if case .sent = result {
                state.hasSent = true
                return true
            }
            var outcome = SendOutcome(isFirst: !state.hasSent)
            outcome.add(result, count)
            settle(outcome, engine, &state) { failure = $0 }
        case .noRoom:
            return false
        case .unsealed:
            // The association may have ended with it, and has said so.
            if failure == nil { return nil }
        }
        effects = collect(&state) { _ in }
        return failure == nil
    }

    static func closedError(_ reason: DtlsCloseReason?) -> DtlsError {
        if case .failed(let error)? = reason { return error }
        let what = reason.map { "the connection was \($0)" } ?? "the connection is not open"
        return DtlsError(.connectionClosed, phase: .established, what)
    }

    /// Sends what an engine has to send. With the association's lock held.
    func transmit(_ engine: DtlsEngine, _ state: inout State, _ sendFailure: (DtlsError) -> Void) {
        let local = state.local
        let peer = state.peer
        var outcome = SendOutcome(isFirst: !state.hasSent)
        var allowance = state.path?.allowance ?? .max
        let before = allowance
        var unproven = 0
        engine.drainOutboundBytes { datagram in
            guard datagram.count <= allowance else {
                unproven += 1
                return
            }
            allowance -= datagram.count
            outcome.add(owner.loop.socket.send(datagram, to: peer, from: local), datagram.count)
        }
        if state.path != nil { state.path?.sent += before - allowance }
        if unproven > 0 { state.unprovenDrops += unproven }
        settle(outcome, engine, &state, sendFailure)
    }

    /// What has become of datagrams at the socket.
    private struct SendOutcome {
        /// Whether none had left before.
        let isFirst: Bool
        private(set) var hasSent = false
        private(set) var dropped = 0
        private(set) var failures = 0
        private(set) var refusal: Int32?
        /// How large datagrams may be, if one was larger.
        private(set) var largest: Int?

        init(isFirst: Bool) {
            self.isFirst = isFirst
        }

        mutating func add(_ result: UDPSocket.SendResult, _ count: Int) {
            switch result {
            case .sent, .queued:
                hasSent = true
            case .dropped:
                dropped += 1
            case .failed(let code):
                failures += 1
                refusal = code
            case .tooLarge(let maximum):
                failures += 1
                let smaller = Association.nextSmaller(than: count, maximum: maximum)
                largest = Swift.min(largest ?? smaller, smaller)
            }
        }
    }

    /// Draws the conclusions.
    private func settle(
        _ outcome: SendOutcome,
        _ engine: DtlsEngine,
        _ state: inout State,
        _ sendFailure: (DtlsError) -> Void
    ) {
        if outcome.hasSent { state.hasSent = true }
        state.sendsDropped += outcome.dropped
        state.sendFailures += outcome.failures
        if let largest = outcome.largest {
            engine.lowerMTU(to: largest)
            sendFailure(Self.tooLarge(engine.maximumPayloadSize))
        }
        guard let refusal = outcome.refusal else { return }
        sendFailure(Self.refused(refusal))
        // A successor has the time of its handshake, whatever is said of the peer: it must not end what is authentic.
        guard engine === state.engine else { return }
        // A connect for which this machine has no route ends at once, as connect(2) does; nothing of it can be forged.
        // Once something has left, routes come and go, and retransmissions are there for that.
        engine.noteUnreachable(
            Self.unreachable(state.peer, refusal),
            isFinal: outcome.isFirst && !outcome.hasSent && Self.meansNoRoute(refusal),
            at: .now
        )
    }

    /// The network says that a datagram to the peer did not arrive.
    func networkReported(_ error: NetworkError, now: Moment) {
        guard error.code == SystemCall.messageTooLarge else {
            // That nobody listens at the port will not change by asking again. Everything else may: a router that has
            // no way for the moment, an address that nobody has answered for yet.
            let reason = Self.unreachable(peer, error.code)
            return input { $0.noteUnreachable(reason, isFinal: error.isRefusal, at: now) }
        }
        guard let largest = error.largestDatagram else { return }
        let effects = state.withLock { state in
            state.successor?.lowerMTU(to: largest)
            return collect(&state) { $0.lowerMTU(to: largest) }
        }
        carryOut(effects)
    }

    /// How large datagrams may be after one of `count` bytes was too large: what the system says, or else the next
    /// lower of the sizes that are common.
    static func nextSmaller(than count: Int, maximum: Int?) -> Int {
        if let maximum, maximum < count { return maximum }
        // Jumbo frames; Ethernet, and PPPoE below it, with the headers of IPv6; IPv6's least; and what is left on
        // radio.
        let common = [8_972, 4_096, 1_452, 1_444, 1_232, 1_024, 548]
        return common.first { $0 < count } ?? DtlsEngine.minimumMTU
    }

    private static func tooLarge(_ maximum: Int) -> DtlsError {
        DtlsError(
            .payloadTooLarge,
            phase: .established,
            "the path to the peer does not carry a datagram of this size",
            hint: "send up to \(maximum) bytes at a time: maximumPayloadSize tells what fits now",
            systemError: EMSGSIZE
        )
    }

    private static func refused(_ code: Int32) -> DtlsError {
        DtlsError(
            .socketFailed,
            phase: .established,
            "a datagram could not be sent: \(SystemCall.description(of: code))",
            hint: code == EPERM ? firewallHint : nil,
            systemError: code
        )
    }

    /// Why a connect does not come about.
    static func unreachable(_ peer: DtlsAddress, _ code: Int32) -> DtlsError {
        let hint: String
        switch code {
        case ECONNREFUSED: hint = "nobody listens at this port: check address and port, and whether the server runs"
        case EPERM: hint = firewallHint
        default: hint = "check the address, and this machine's network and routes"
        }
        return DtlsError(
            .peerUnreachable,
            phase: .handshake,
            "\(peer) cannot be reached: \(SystemCall.description(of: code))",
            hint: hint,
            systemError: code
        )
    }

    private static let firewallHint = "a firewall on this machine refuses to send it"

    private static func meansNoRoute(_ code: Int32) -> Bool {
        switch code {
        case ENETUNREACH, EHOSTUNREACH, ENETDOWN, EADDRNOTAVAIL, EAFNOSUPPORT: true
        default: false
        }
    }
}
