import DTLSPrimitives

// When flights are sent again, beyond what OpenSSL's timer does by itself.

extension AttachedAssociation {
    var roundTrip: Duration? {
        get { callbacks.roundTrip }
        set { callbacks.roundTrip = newValue }
    }

    /// Takes note of the round trip that a datagram shows.
    func measureRoundTrip(_ datagram: UnsafeRawBufferPointer, now: Moment) {
        guard let roundTrip = meter.roundTrip(shownBy: datagram, now: now) else { return }
        callbacks.roundTrip = roundTrip
        statistics.roundTrip = roundTrip
    }

    func retransmit(now: Moment) {
        switch records.perform(.handleTimeout) {
        case .failed:
            failByTime()
        case .waits:
            if let overdueDeadline, now >= overdueDeadline { repeatOverdueFlight(now: now) }
        case .done, .waitsForVerdict, .closedByPeer, .emptyRecord:
            break
        }
    }

    /// Does what OpenSSL's timer ought to have done, had the wall clock not been set back.
    ///
    /// The copies are exact ones. They repair the loss of the flight itself. Where its answer was lost, the peer's
    /// timer has to, which is all that it can: OpenSSL has no call that makes a timer expire.
    private func repeatOverdueFlight(now: Moment) {
        bio.repeatFlight()
        let wait = callbacks.beginWait(after: callbacks.wait)
        timedWait = callbacks.waits
        overdueDeadline = now + .microseconds(Int64(wait))
    }

    /// Finds out when OpenSSL's timer expires next, and when it is overdue.
    func scheduleRetransmission(now: Moment) {
        guard lifecycle.isHandshaking, question == nil, let delay = records.retransmissionDelay else {
            retransmissionDeadline = nil
            overdueDeadline = nil
            return
        }
        if overdueDeadline == nil || timedWait != callbacks.waits {
            timedWait = callbacks.waits
            // Twice the wait: OpenSSL began to count somewhat after `now`.
            let wait = Duration.microseconds(Int64(callbacks.wait))
            overdueDeadline = now + wait + Swift.max(wait, .milliseconds(500))
        }
        // A wall clock that was set back makes OpenSSL wait for hours.
        retransmissionDeadline = overdueDeadline.map { Swift.min(now + delay, $0) }
    }

    /// Takes note of the flights that OpenSSL has sent again since the last time, because it was told to or because it
    /// was read from late.
    func countRetransmissions() {
        let fresh = callbacks.timeouts - countedTimeouts
        guard fresh > 0, lifecycle.isHandshaking else { return }
        countedTimeouts = callbacks.timeouts
        statistics.retransmissions += fresh
        filter.renewEarlyRecords()
        reassembly?.waitExpired(counting: &statistics.drops)
        let policy = context.configuration.retransmission
        if unusableSealedRecords > waitsWithUnusableRecords.counted {
            waitsWithUnusableRecords = (unusableSealedRecords, waitsWithUnusableRecords.waits + 1)
        }
        if waitsWithUnusableRecords.waits >= 3 {
            // The client's Finished came, again and again, and does not open: the keys differ. Of forged ones there may
            // be any number at any time, but in three waits the client has sent its own again, and that would have
            // opened.
            failByWrongKey()
        } else if callbacks.timeoutsOfFlight > policy.maximumAttempts {
            failByTime()
        } else if callbacks.timeoutsOfFlight > 1, policy.doublesSmallFlights, bio.flightCount <= 2 {
            bio.repeatFlight()
        }
    }

    /// Sends a server's flight again because the client has sent its hello again: the flight was lost, and the client's
    /// timer, which knows the round trip, is often the faster one. OpenSSL leaves such a hello unanswered.
    ///
    /// Only a hello of the same handshake with a new record sequence number counts, and no more of them than a flight
    /// has attempts, so that neither the network's copies nor anybody else's make traffic.
    func answerRepeatedHello(_ datagram: UnsafeRawBufferPointer, now: Moment) {
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
