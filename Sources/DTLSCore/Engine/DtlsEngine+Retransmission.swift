// When flights are sent again, beyond what OpenSSL's timer does by itself.

extension DtlsEngine {
    /// How long the path takes there and back, as far as it is known: what was set before ``start(now:)``, until the handshake has shown
    /// it.
    ///
    /// Set it where the transport knows it (an ICE agent does, and a server whose clients are known), and the waits for lost flights fit
    /// the path from the first one on; see ``DtlsRetransmissionPolicy/adaptsToRoundTrip``. A client measures it in the cookie exchange,
    /// or up to the ServerHello where there is none, a server from its own flight to the client's answer, computing on both sides
    /// included. `nil`, the default, where nothing was set or measured.
    public var roundTrip: Duration? {
        get { callbacks.roundTrip }
        set { callbacks.roundTrip = newValue }
    }

    /// Takes note of the round trip that a datagram shows.
    func measureRoundTrip(_ datagram: UnsafeRawBufferPointer, now: ContinuousClock.Instant) {
        guard let roundTrip = meter.roundTrip(shownBy: datagram, now: now) else { return }
        callbacks.roundTrip = roundTrip
        statistics.roundTrip = roundTrip
    }

    func retransmit() {
        if case .failed = records.perform(.handleTimeout) { failByTime() }
    }

    /// Takes note of the flights that OpenSSL has sent again since the last time, because it was told to or because it was read from
    /// late.
    func countRetransmissions() {
        let fresh = callbacks.timeouts - countedTimeouts
        guard fresh > 0, lifecycle.isHandshaking else { return }
        countedTimeouts = callbacks.timeouts
        statistics.retransmissions += fresh
        filter.renewEarlyRecords()
        let policy = context.configuration.retransmission
        if unusableSealedRecords >= 2 {
            // The client's Finished came, again and again, and does not open: the keys differ.
            failByWrongKey()
        } else if callbacks.timeoutsOfFlight > policy.maximumAttempts {
            failByTime()
        } else if callbacks.timeoutsOfFlight > 1, policy.doublesSmallFlights, bio.flightCount <= 2 {
            bio.repeatFlight()
        }
    }

    /// Sends a server's flight again because the client has sent its hello again: the flight was lost, and the client's timer, which knows
    /// the round trip, is often the faster one. OpenSSL leaves such a hello unanswered.
    ///
    /// Only a hello of the same handshake with a new record sequence number counts, and no more of them than a flight has attempts, so that
    /// neither the network's copies nor anybody else's make traffic.
    func answerRepeatedHello(_ datagram: UnsafeRawBufferPointer, now: ContinuousClock.Instant) {
        guard context.role == .server, let header = RecordHeader(datagram, at: 0), header.epoch == 0,
            header.contentType == ContentType.handshake,
            let fragment = HandshakeFragment(
                datagram,
                at: RecordHeader.size,
                end: RecordHeader.size + header.length
            ),
            fragment.type == HandshakeType.clientHello, fragment.fragmentOffset == 0,
            let start = ClientHelloStart(datagram, fragment.body)
        else { return }
        guard let known = latestHello else {
            latestHello = (Array(datagram[start.random]), header.sequenceNumber)
            return
        }
        guard header.sequenceNumber > known.sequenceNumber, datagram[start.random].elementsEqual(known.random) else {
            return
        }
        latestHello?.sequenceNumber = header.sequenceNumber
        guard lifecycle.isHandshaking, !bio.hasWritten, bio.flightCount > 0,
            answeredHellos < context.configuration.retransmission.maximumAttempts
        else { return }
        answeredHellos += 1
        statistics.retransmissions += 1
        bio.repeatFlight()
        meter.sent(upTo: bio.highestSequenceNumber ?? 0, at: now)
    }
}
