import COpenSSL
import DTLSPrimitives

// What the path to the peer is found to carry, and not to carry.

extension AttachedAssociation {
    var mtu: Int { bio.mtu }

    // There are no records for them in OpenSSL.
    var checksPaths: Bool { false }
    var isPathChallenged: Bool { false }
    func challengePath(again: Bool) -> Bool { false }

    func lowerMTU(to bytes: Int) {
        let mtu = Swift.max(bytes, DtlsEngine.minimumMTU)
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
        if let overhead = callbacks.sealedOverhead(of: records.cipher) {
            maximumPayloadSize = Swift.min(maximumFragment, bio.mtu - RecordHeader.size - overhead)
        } else {
            // CBC: what OpenSSL computes from the block size, for the MTU that it knows.
            maximumPayloadSize = Swift.min(maximumFragment, DTLS_get_data_mtu(ssl))
        }
    }

    func noteUnreachable(_ error: DtlsError, isFinal: Bool, now: Moment) {
        guard lifecycle.isHandshaking, context.role == .client, !hasHeardFromPeer else { return }
        unreachable = error
        guard isFinal else { return }
        end(.failed(error))
        finishInput(now: now)
    }

    /// Whether a datagram came. It may be anybody's; who can forge it can forge ICMP messages too.
    var hasHeardFromPeer: Bool { statistics.datagramsReceived > 0 }
}
