// What an application may take from an open association, and give to one that begins.

extension DtlsEngine {
    /// Offers to resume a session (`SSL_set_session(3)`). Before ``start(now:)`` of a client only.
    ///
    /// - Parameter session: What ``session`` of an earlier engine was.
    /// - Returns: `false` when the session is expired or was made under other demands or credentials, and on servers;
    ///   the handshake will be a full one then, as it will when the server does not want to resume.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` when the handshake has begun.
    public func resume(_ session: DtlsSession) throws(DtlsError) -> Bool {
        guard let attached else { throw Self.alreadyBegun }
        return try attached.resume(session)
    }

    static var alreadyBegun: DtlsError {
        DtlsError(.invalidConfiguration, phase: .handshake, "the handshake has already begun")
    }

    /// The session of an open client, to be resumed later; `nil` when the server does not resume sessions, on servers,
    /// and unless the association is open.
    public var session: DtlsSession? { isOpen ? life.session : nil }

    /// Derives secret bytes that both sides, and nobody else, can derive (RFC 5705, `SSL_export_keying_material(3)`).
    ///
    /// - Parameters:
    ///   - label: What they are for, from the IANA registry "TLS Exporter Labels" or starting with `EXPERIMENTAL`.
    ///   - context: What they are bound to; `nil` and empty are different. Label and context have 958 bytes together at
    ///     the most.
    ///   - count: How many: 1 to 16,384.
    /// - Throws: ``DtlsError/Code-swift.struct/connectionClosed``, or the error with which it has failed, unless the
    ///   association is open; ``DtlsError/Code-swift.struct/invalidConfiguration`` for a count, label or context that
    ///   is not possible, and for the labels of TLS itself (RFC 5705 §4).
    public func exportKeyingMaterial(
        label: String,
        context: [UInt8]? = nil,
        count: Int
    ) throws(DtlsError) -> DtlsSecretBytes {
        try life.exportKeyingMaterial(label: label, context: context, count: count)
    }

    /// The keys of SRTP (RFC 5764 §4.2), the same ones at each call.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/connectionClosed``, or the error with which it has failed, unless the
    ///   association is open; ``DtlsError/Code-swift.struct/unsupported`` when no profile was negotiated
    ///   (``DtlsConfiguration/srtpProfiles``).
    public func srtpKeys() throws(DtlsError) -> DtlsSRTPKeys {
        guard let negotiated else { throw life.notOpen }
        guard let profile = negotiated.srtpProfile else {
            throw DtlsError(
                .unsupported,
                phase: .established,
                "no SRTP profile was negotiated",
                hint: "set srtpProfiles on both sides"
            )
        }
        let block = try exportKeyingMaterial(
            label: "EXTRACTOR-dtls_srtp",
            count: 2 * (profile.keyLength + profile.saltLength)
        )
        return DtlsSRTPKeys(block, profile: profile, role: context.role)
    }
}
