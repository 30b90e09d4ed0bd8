import DTLSCore
import DTLSPrimitives

// Datagrams on their way in, and payloads on their way to a receiver on the loop.

extension Association {
    /// Who is handed payloads where they come in.
    final class Receiver: Sendable {
        /// Kept until the end: whoever handles datagrams need not hold the connection.
        let connection: DtlsConnection
        let received: @Sendable (DtlsConnection, RawSpan) -> Void
        let closed: (@Sendable (DtlsConnection, DtlsCloseReason) -> Void)?

        init(
            _ connection: DtlsConnection,
            received: @escaping @Sendable (DtlsConnection, RawSpan) -> Void,
            closed: (@Sendable (DtlsConnection, DtlsCloseReason) -> Void)?
        ) {
            self.connection = connection
            self.received = received
            self.closed = closed
        }
    }

    /// Takes a datagram, on the queue of `loop`.
    ///
    /// - Parameters:
    ///   - source: Where the datagram came from.
    ///   - local: The address of this machine that the datagram was sent to, if the system tells.
    func receive(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress? = nil,
        on loop: SocketLoop,
        now: Moment
    ) {
        let arrival = state.withLock { state -> Outcome in
            guard let opening = openShortly(datagram, from: source, to: local, into: loop.plaintext, &state, now: now)
            else { return .rest(isTaken: false) }
            switch opening {
            case .payload(let count, _):
                let payload = UnsafeRawBufferPointer(rebasing: loop.plaintext[..<count])
                state.lastActivity = now
                if let receiver = state.receiver { return .payload(payload, receiver) }
                let delivery = state.inbox.add(payload)
                return .added(delivery, isFilling: state.inbox.isFilling(with: count))
            case .taken: return .rest(isTaken: true)
            case .notTaken: return .rest(isTaken: false)
            }
        }
        switch arrival {
        case .added(let delivery, let isFilling):
            if let delivery { loop.deliver(delivery) }
            // Whoever reads it may still be on the way to be told.
            if isFilling { loop.carryOutDeliveries() }
        // Nobody else writes there before this call returns: the buffer is the loop's, and so is the thread.
        case .payload(let payload, let receiver):
            loop.executor.handOver { receiver.received(receiver.connection, payload.bytes) }
        case .rest(let isTaken): receiveRest(isTaken ? nil : datagram, from: source, to: local, on: loop, now: now)
        }
    }

    /// Takes a datagram that was not to be opened shortly, or, if there is none left, what has come of it.
    ///
    /// Not with the lock that was held for that: effects are large, and most datagrams have none.
    @inline(never)
    private func receiveRest(
        _ datagram: UnsafeRawBufferPointer?,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        on loop: SocketLoop,
        now: Moment
    ) {
        var (effects, isFilling) = state.withLock { state in
            let effects =
                if let datagram {
                    take(datagram, from: source, to: local, &state, now: now)
                } else {
                    collect(&state) { _ in }
                }
            return (effects, state.inbox.isFilling(with: datagram?.count ?? 0))
        }
        if effects.closeReason == nil, effects.movers.isEmpty, !effects.hasOpened {
            for delivery in effects.deliveries { loop.deliver(delivery) }
            effects.deliveries = []
            if isFilling { loop.carryOutDeliveries() }
        } else {
            // Whoever waits for an end, a move or a new connection is told behind those who wait for what came before.
            loop.carryOutDeliveries()
        }
        carryOut(effects)
    }

    /// What a datagram brings, to be carried out after the lock is released.
    ///
    /// `@unchecked Sendable`: the payload is lent by the loop, and does not leave its thread.
    private enum Outcome: @unchecked Sendable {
        /// It is in the inbox, or a reader's.
        case added(Inbox.Delivery?, isFilling: Bool)
        case payload(UnsafeRawBufferPointer, Receiver)
        /// It is for ``receiveRest(_:from:to:on:now:)``.
        case rest(isTaken: Bool)
    }

    /// Opens what most datagrams are: one record of application data, from where the peer is. `nil` where more is to be
    /// looked at than that.
    private func openShortly(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        into buffer: UnsafeMutableRawBufferPointer,
        _ state: inout State,
        now: Moment
    ) -> ApplicationDataOpening? {
        guard source == state.peer, state.path == nil, state.renewing == nil, let engine = state.engine,
            // What came before it comes first.
            state.receiver == nil || state.inbox.isEmpty
        else { return nil }
        let opening = engine.openApplicationData(datagram, into: buffer, now: now)
        if let local, case .payload = opening { state.local = local }
        return opening
    }

    private func take(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        _ state: inout State,
        now: Moment
    ) -> Effects {
        let hasSuccessor = state.successor != nil
        var receipt = DtlsReceipt.unknown
        var former: DtlsAddress?
        var effects = collect(
            &state,
            before: { former = follow(source, local, receipt, bytes: datagram.count, &$0, now: now) },
            { receipt = $0.receive(datagram, at: now) }
        )
        if let former {
            effects.movedFrom = former
            effects.movers += state.waiting?.movers.removeAll() ?? []
        }
        // What is in clear concerns the successor alone, and what is sealed opens in one of them only.
        if hasSuccessor, state.engine != nil { renew(&state, &effects) { $0.receive(datagram, at: now) } }
        return effects
    }

    // MARK: Receivers. They are called on the loop's queue alone, so that they need no lock of their own.

    /// Hands payloads over from now on, those first that nobody has read.
    func setReceiver(_ receiver: Receiver) {
        if owner.loop.executor.isAwake {
            let (isSet, former) = state.withLock { state -> (Bool, Receiver?) in
                guard state.closeReason == nil, state.inbox.isEmpty else { return (false, nil) }
                defer { state.receiver = receiver }
                return (true, state.receiver)
            }
            // Outside of the lock: with it may go an object that calls this association.
            _ = former
            if isSet { return }
        }
        // Not at once: this may be the receiver's own call, and it handles one after the other.
        owner.loop.perform {
            let (reason, former) = self.state.withLock { state -> (DtlsCloseReason?, Receiver?) in
                guard state.closeReason == nil else { return (state.closeReason, nil) }
                defer { state.receiver = receiver }
                return (nil, state.receiver)
            }
            _ = former
            self.handAll(to: receiver)
            if let reason { self.tell(receiver, reason) }
        }
    }

    /// Hands over what has come in another way than the short one: at once, if this is a wake-up of the loop, and not
    /// a receiver's own call.
    func handWaiting() {
        let loop = owner.loop
        if loop.executor.isAwake, !loop.executor.isHandingOver { return handAll() }
        loop.perform { self.handAll() }
    }

    private func handAll() {
        // The one that there is by now.
        if let receiver = state.withLock({ $0.receiver }) { handAll(to: receiver) }
    }

    private func handAll(to receiver: Receiver) {
        while let payload = state.withLock({ $0.inbox.takePayload() }) {
            owner.loop.executor.handOver { receiver.received(receiver.connection, payload.span.bytes) }
        }
    }

    /// Tells a receiver of the end, behind everything that came before.
    func end(_ receiver: Receiver, _ reason: DtlsCloseReason) {
        owner.loop.perform {
            self.handAll(to: receiver)
            self.tell(receiver, reason)
        }
    }

    private func tell(_ receiver: Receiver, _ reason: DtlsCloseReason) {
        owner.loop.executor.handOver { receiver.closed?(receiver.connection, reason) }
    }
}
