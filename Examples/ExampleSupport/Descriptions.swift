public import DTLS

extension DtlsNegotiated {
    /// What was agreed, in one line: `DTLSv1.2, ECDHE-ECDSA-AES128-GCM-SHA256, x25519`, and after that what there is of
    /// `ALPN coap`, `SRTP_AEAD_AES_128_GCM` and `resumed`.
    public var summary: String {
        let parts = [
            version.description, cipherSuite.openSSLName, group,
            applicationProtocol.map { "ALPN \(escapedForTerminal($0.utf8))" },
            srtpProfile?.name,
            isResumed ? "resumed" : nil,
        ]
        return parts.compactMap(\.self).joined(separator: ", ")
    }

    /// Who the peer proved to be, safe to print.
    public var peerSummary: String {
        if let certificate = peerCertificates.first {
            "certificate \(escapedForTerminal(certificate.subject.utf8))"
        } else if let preSharedKeyIdentity {
            "PSK identity \"\(escapedForTerminal(preSharedKeyIdentity))\""
        } else {
            "no certificate"
        }
    }
}

extension DtlsCloseReason {
    /// Why a connection is over, as the end of a sentence that begins with "closed".
    public var summary: String {
        switch self {
        case .closedLocally: "by this side"
        case .closedByPeer: "by the peer"
        case .replacedByPeer: "because the peer began anew"
        case .idle: "because nothing came or went for too long"
        case .evicted: "to make room for others"
        case .handedOver: "because another process goes on with it"
        case .failed(let error): "by a failure: \(escapedForTerminal(error.description.utf8))"
        @unknown default: "for a reason of which this program is unaware"
        }
    }
}
