public import DTLS

extension DtlsNegotiated {
    /// What was agreed, in one line: `DTLSv1.2, ECDHE-ECDSA-AES128-GCM-SHA256, x25519`, and after that what there is of
    /// `own CID of 8 bytes`, `peer's CID of 8 bytes`, `ALPN coap`, `SRTP_AEAD_AES_128_GCM` and `resumed`.
    public var summary: String {
        let parts = [
            version.description, cipherSuite.openSSLName, group,
            length(of: connectionIDs?.own).map { "own CID of \($0)" },
            length(of: connectionIDs?.peer).map { "peer's CID of \($0)" },
            applicationProtocol.map { "ALPN \(escapedForTerminal($0.utf8))" },
            srtpProfile?.name,
            isResumed ? "resumed" : nil,
        ]
        return parts.compactMap(\.self).joined(separator: ", ")
    }

    /// Nil for one that is empty, which stands in no record.
    private func length(of connectionID: [UInt8]?) -> String? {
        guard let connectionID, !connectionID.isEmpty else { return nil }
        return counted(connectionID.count, "byte", plural: "bytes")
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
