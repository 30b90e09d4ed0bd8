package import DTLSPrimitives

// The inputs and outputs in which time has a part, for the package's own endpoints: as those of `DtlsEngine.swift`, by
// the clock that they read.

extension DtlsEngine {
    package func start(at now: Moment) {
        attached?.start(now: now)
    }

    @discardableResult
    package func receive(_ datagram: UnsafeRawBufferPointer, at now: Moment) -> DtlsReceipt {
        let receipt = life.receive(datagram, now: now)
        graduate(now: now)
        return receipt
    }

    package func handleTimeout(at now: Moment) {
        life.handleTimeout(now: now)
        graduate(now: now)
    }

    package func answer(_ answer: DtlsPreSharedKeyAnswer, at now: Moment) {
        attached?.answer(answer, now: now)
        graduate(now: now)
    }

    package func answer(accepted: Bool, at now: Moment) {
        attached?.answer(accepted: accepted, now: now)
        graduate(now: now)
    }

    package func answer(identity: DtlsIdentity?, session: DtlsStoredSession?, at now: Moment) {
        attached?.answer(identity: identity, session: session, now: now)
        graduate(now: now)
    }

    /// As ``nextDeadline``.
    package var deadline: Moment? { life.nextDeadline }

    /// As ``nextDeadline``, or else when ``handleTimeout(now:)`` has something to throw away: the last flight of the
    /// handshake, for which the peer may ask for four minutes. It does no harm if nobody calls it then, but for some
    /// hundred bytes, so it is no deadline for others.
    package var ownDeadline: Moment? { deadline ?? detached?.housekeepingDeadline }
}
