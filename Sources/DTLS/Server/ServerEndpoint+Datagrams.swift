import DTLSPrimitives
import Logging

// A datagram's way: to its association, to the gate, or nowhere.

extension ServerEndpoint: SocketLoopHandler {
    /// What to do about a datagram.
    enum Route {
        case drop
        case deliver(Association, also: Association?)
        /// This loop knows nothing of it, or nothing but who is at its source's address; one of these may.
        case ask([ServerEndpoint], known: Association?, also: Association?)
        /// It may be sealed by one of these, whose peer is elsewhere now.
        case trial([Association])
        /// It may be the hello of somebody new, or of a peer that starts anew.
        case greet(isKnown: Bool)
        case reply([UInt8], DtlsCapture?, hasCookie: Bool)
        case admit(DtlsClientHello, DtlsClientHello.Identity, DtlsServerContext)

        static func deliver(_ entry: ConnectionTable<Association>.Entry) -> Route {
            .deliver(entry.current, also: entry.candidate)
        }
    }

    func receive(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        on loop: SocketLoop,
        now: Moment
    ) {
        if let owner = obviousOwner(of: datagram, from: source) {
            return owner.receive(datagram, from: source, to: local, on: loop, now: now)
        }
        var route = routeToKnown(datagram, from: source, now: now)
        if case .ask(let loops, let known, let candidate) = route {
            route =
                routeToOther(loops, datagram, from: source, now: now)
                ?? known.map { .deliver($0, also: candidate) } ?? drop(.unknownPeer)
        }
        if case .trial(let candidates) = route {
            // Ciphers: outside of the lock.
            let owner = candidates.first { $0.recognizes(datagram) }
            route = owner.map { .deliver($0, also: nil) } ?? drop(.unknownPeer)
        }
        if case .greet(let isKnown) = route {
            // A closure of the application: outside of the lock, and before anything is computed.
            if !isKnown, let admitsAddress, !admitsAddress(source) {
                route = drop(.refusedAddress)
            } else {
                route = greet(datagram, from: source, now: now)
            }
        }
        if case .deliver(let association, _) = route, let admitsAddress, association.peer != source,
            !admitsAddress(source)
        {
            route = drop(.refusedAddress)
        }
        switch route {
        case .drop, .greet, .trial, .ask:
            break
        case .deliver(let association, let other) where loopCount > 1 && association.owner !== self:
            hand(datagram, to: association, also: other, from: source, to: local)
        case .deliver(let association, let other):
            association.receive(datagram, from: source, to: local, on: loop, now: now)
            other?.receive(datagram, from: source, to: local, on: loop, now: now)
        case .reply(let reply, let capture, let hasCookie):
            reply.withUnsafeBytes { bytes in
                // What is lost comes again with the next hello.
                let result = loop.socket.send(bytes, to: source, from: local)
                state.withLock { state in
                    switch result {
                    case .sent, .queued: state.counters.answered(bytes.count, withCookie: hasCookie)
                    case .dropped: state.counters.dropped(.sendQueueFull)
                    case .failed, .tooLarge: state.counters.sendFailed()
                    }
                }
                capture?.record(datagram, from: source.endpointName, to: name(local))
                capture?.record(bytes, from: name(local), to: source.endpointName)
            }
        case .admit(let hello, let identity, let context):
            context.configuration.capture?.record(datagram, from: source.endpointName, to: name(local))
            admit(hello, identity, from: source, to: local, context)
        }
    }

    /// Whose a datagram is, where nothing else is to be asked: most datagrams bear application data.
    private func obviousOwner(of datagram: UnsafeRawBufferPointer, from source: DtlsAddress) -> Association? {
        guard let type = datagram.first, type == 23 || type == 25, admitsAddress == nil else { return nil }
        return state.withLock { state in
            // Before the address: another peer may have been there before.
            let owner =
                type == 25
                ? state.table.owner(ofConnectionIDIn: datagram) : state.table.onlyOne(at: source)
            if owner != nil { state.counters.received(datagram.count) }
            return owner
        }
    }

    func drop(_ reason: DtlsDropReason) -> Route {
        state.withLock { $0.counters.dropped(reason) }
        return .drop
    }

    /// Datagrams of a peer that is starting anew go to both of its associations: what is in clear concerns the new one
    /// alone, which the engines see to, and what is sealed opens in one of them only.
    private func routeToKnown(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        now: Moment
    ) -> Route {
        state.withLock { state -> Route in
            guard !state.isClosed else { return .drop }
            state.counters.received(datagram.count)
            // Before the address: another peer may have been there before.
            if let owner = state.table.owner(ofConnectionIDIn: datagram) { return .deliver(owner, also: nil) }
            let entry = state.table[source]
            if DtlsHelloGate.startsWithClientHello(datagram.bytes) { return .greet(isKnown: entry != nil) }
            if !state.loops.isEmpty, entry == nil || DtlsEngine.startsWithConnectionID(datagram) {
                return .ask(state.loops, known: entry?.current, also: entry?.candidate)
            }
            if let entry { return .deliver(entry) }
            if let candidates = state.search?.candidates(for: datagram, from: source, now: now), !candidates.isEmpty {
                return .trial(candidates)
            }
            state.counters.dropped(.unknownPeer)
            return .drop
        }
    }

    private func greet(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        now: Moment
    ) -> Route {
        let prefix = AddressPrefix(source)
        let hasCookie = DtlsHelloGate.carriesCookie(datagram.bytes)
        return state.withLock { state -> Route in
            func drop(_ reason: DtlsDropReason) -> Route {
                state.counters.dropped(reason)
                return .drop
            }
            guard !state.isClosed else { return .drop }
            if state.isDraining { return drop(.draining) }
            // Before anything is computed. A hello with a cookie has its share of handshakes instead, which nobody else
            // can use up.
            if !hasCookie, tally.cookieRate?.take(prefix, now: now) == false { return drop(.cookieRate) }
            var peer: [UInt8] = []
            peer.reserveCapacity(DtlsAddress.byteCount)
            source.appendBytes(to: &peer)
            switch state.gate.judge(datagram.bytes, from: peer, at: now) {
            case .ignore:
                return drop(.unusableHello)
            case .reply(let reply):
                if hasCookie, tally.cookieRate?.take(prefix, now: now) == false { return drop(.cookieRate) }
                return .reply(reply, state.context.configuration.capture, hasCookie: true)
            case .accept(let hello):
                let identity = hello.identity
                let entry = state.table[source]
                if let association = entry?.first(where: { $0.clientHello?.isRepetition(of: identity) == true }) {
                    // It came again: the answer may have been lost. An open association need not see it.
                    if association.connectionState == .handshaking { return .deliver(association, also: nil) }
                    return drop(.repeatedHello)
                }
                guard tally.state.withLock({ $0.admission.admits(prefix) }),
                    tally.handshakeRate?.take(prefix, now: now) != false
                else {
                    return drop(.handshakeRate)
                }
                if let alert = state.refused.alert(for: identity.digest, from: source, now: now) {
                    state.counters.dropped(.repeatedHello)
                    return .reply(hello.record(of: alert), state.context.configuration.capture, hasCookie: false)
                }
                // Nobody gives way to a hello: that happens when its handshake is finished.
                if entry == nil, isFull(now: now) { return drop(.connectionLimit) }
                return .admit(hello, identity, state.context)
            }
        }
    }

    /// Whether all connections are there that there may be, and none is stale.
    private func isFull(now: Moment) -> Bool {
        tally.state.withLock { tally in
            tally.silence.count >= limits.connections
                && tally.silence.stalest(silentSince: now - limits.staleAfter) == nil
        }
    }

    private func admit(
        _ hello: DtlsClientHello,
        _ identity: DtlsClientHello.Identity,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        _ context: DtlsServerContext
    ) {
        let association: Association
        do throws(DtlsError) {
            let engine = try makeEngine(context, hello, source)
            if context.configuration.capture != nil { engine.flow = (name(local), source.endpointName) }
            association = Association(
                engine: engine,
                peer: source,
                local: local,
                owner: self,
                clientHello: identity,
                serverContext: context,
                connectionID: engine.ownConnectionID,
                queue: limits.queue,
                idleTimeout: limits.idleTimeout
            )
        } catch {
            logger?.error("no association could be made", metadata: ["peer": "\(source)", "error": "\(error)"])
            handshakeFailed?(source, error)
            return
        }
        var displaced: Association?
        var evicted: Association?
        let isAdmitted = state.withLock { state -> Bool in
            guard !state.isClosed else { return false }
            // An import may have brought the ID meanwhile. The client asks again, and gets another one.
            if let id = association.connectionID, state.table.contains(connectionID: id) { return false }
            // Beside imports only this queue lets anybody in here, so what was true when the hello was judged still is.
            switch state.table[source] {
            case nil:
                state.table.insert(association, for: source)
            case let entry? where entry.current.connectionState == .handshaking:
                // The peer gave its first attempt up.
                displaced = entry.current
                state.table.insert(association, for: source)
            case .some:
                displaced = state.table.setCandidate(association, for: source)
            }
            if let id = association.connectionID { state.table.insert(association, connectionID: id) }
            let (count, handshakes) = tally.state.withLock { tally in
                evicted = tally.admission.admit(association, AddressPrefix(source))
                return (tally.connections(state.table.count, ofLoop: index), tally.admission.count)
            }
            state.counters.connections(count, handshakes: handshakes)
            return true
        }
        displaced?.abandon()
        evicted?.close(as: .evicted)
        if isAdmitted { association.start() }
    }

    /// Makes an engine whose Connection ID no other association has.
    private func makeEngine(
        _ context: DtlsServerContext,
        _ hello: DtlsClientHello,
        _ source: DtlsAddress
    ) throws(DtlsError) -> sending DtlsEngine {
        // What is made here has its loop in its first byte.
        let areMadeHere = context.configuration.connectionIDs.areMadeHere
        let places = loopCount == 1 || areMadeHere ? [self] : state.withLock { $0.loops }
        for _ in 0..<8 {
            let engine = try DtlsEngine(
                server: context.engineContext,
                hello: hello,
                usesIPv6: source.isIPv6,
                residue: loopCount == 1 ? nil : ConnectionIDResidue(index, modulo: loopCount)
            )
            guard let id = engine.ownConnectionID,
                places.contains(where: { $0.state.withLock { $0.table.contains(connectionID: id) } })
            else { return engine }
        }
        throw DtlsError(
            .invalidConfiguration,
            phase: .handshake,
            "each of the Connection IDs that were made is in use",
            hint: "make them longer, or more different"
        )
    }

    /// This side as captures show it.
    private func name(_ local: DtlsAddress?) -> DtlsEndpointName {
        (local ?? loop.socket.localAddress).endpointName
    }

    func networkReported(_ error: NetworkError, now: Moment) {
        for association in associations(concernedBy: error) { association.networkReported(error, now: now) }
    }

    func socketFailed(_ error: DtlsError, of loop: SocketLoop) {
        logger?.error("the server's socket failed", metadata: ["error": "\(error)"])
        let loops = state.withLock { $0.loops }
        close(as: .failed(error))
        for other in others(among: loops) { other.close(as: .failed(error)) }
    }
}
