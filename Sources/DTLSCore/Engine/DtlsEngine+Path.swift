import COpenSSL

// What the path to the peer is found to carry, and not to carry.

extension DtlsEngine {
    /// The least that ``lowerMTU(to:)`` goes down to, in bytes of UDP payload.
    public static let minimumMTU = 256

    /// UDP payload bytes of the largest datagram that the engine sends: the configuration's ``DtlsConfiguration/mtu``, or what
    /// ``lowerMTU(to:)`` has made of it.
    public var mtu: Int { bio.mtu }

    /// Makes the datagrams smaller, because the path turned out to carry less than the configuration says (`EMSGSIZE`, an
    /// ICMP message "packet too big").
    ///
    /// What was sent already is not sent again: in a handshake the next retransmission fits, later the application decides.
    /// ``maximumPayloadSize`` follows. The MTU never rises again in this association, and a value that is not lower than
    /// ``mtu`` does nothing.
    ///
    /// - Parameter bytes: The new MTU in bytes of UDP payload, without the IP and UDP headers (28 bytes with IPv4, 48 with
    ///   IPv6). Less than ``minimumMTU`` counts as that.
    public func lowerMTU(to bytes: Int) {
        let mtu = Swift.max(bytes, Self.minimumMTU)
        guard mtu < bio.mtu, lifecycle.closeReason == nil else { return }
        bio.mtu = mtu
        bio.forgetFlight()
        // Else OpenSSL would go on with the answer to the question that it asked once.
        _ = COpenSSL_SSL_set_mtu(records.pointer, bio.messageMTU)
        if lifecycle.isOpen { measurePayload() }
    }

    /// How much of the MTU is left for a payload, in an association that opens or is open.
    func measurePayload() {
        let ssl = records.pointer
        if let overhead = negotiated?.cipherSuite.sealedOverhead {
            maximumPayloadSize = Swift.min(16_384, bio.mtu - RecordHeader.size - overhead)
        } else {
            // CBC: what OpenSSL computes from the block size, for the MTU that it knows.
            maximumPayloadSize = Swift.min(16_384, DTLS_get_data_mtu(ssl))
        }
    }

    /// Takes note that the peer cannot be reached, in the words of the network or the system.
    ///
    /// Only a client's handshake cares, and only until the peer has answered: an ICMP message can be forged and a route
    /// can come back, so no association ends by it, nor the handshake of a server, whose client has shown that it is there.
    ///
    /// - Parameters:
    ///   - error: What to end with.
    ///   - isFinal: Whether to end at once. Otherwise it becomes the reason when the handshake's time is over.
    package func noteUnreachable(_ error: DtlsError, isFinal: Bool, now: ContinuousClock.Instant) {
        guard lifecycle.isHandshaking, context.role == .client, !hasHeardFromPeer else { return }
        unreachable = error
        guard isFinal else { return }
        end(.failed(error))
        finishInput(now: now)
    }

    /// Whether a datagram came. It may be anybody's; who can forge it can forge ICMP messages too.
    var hasHeardFromPeer: Bool { statistics.datagramsReceived > 0 }
}
