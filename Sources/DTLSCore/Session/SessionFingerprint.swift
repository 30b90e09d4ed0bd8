/// What a session stands for beside its secret: the demands that were met when it was made. A context with other
/// demands must not resume it.
enum SessionFingerprint {
    /// 32 bytes, OpenSSL's limit for a session ID context. Hosts with the same settings have the same. Empty for want
    /// of memory.
    static func ofServer(_ settings: DtlsServerSettings, _ configuration: DtlsConfiguration) -> [UInt8] {
        digest([
            "server", "\(settings.clientCertificates)", "\(settings.usesPreSharedKeys)", "\(settings.asksApplication)",
            "\(settings.applicationOverrules)", "\(configuration.rawPublicKeys)", trust(configuration.trust),
        ])
    }

    /// A server's for clients that ask for a name: a session that was made for another one, perhaps with another
    /// certificate, must not be resumed (RFC 6066 §3). Empty for want of memory.
    static func ofServer(_ demands: [UInt8], serverName: String) -> [UInt8] {
        demands.withUnsafeBytes { demands in
            Array(serverName.lowercased().utf8).withUnsafeBytes {
                KeyedHash.sha256?.authenticate($0, key: demands)
            }
        } ?? []
    }

    /// The part of a client's that its context decides: 32 bytes, none for want of memory. It may take the hashes of
    /// all roots there are.
    static func demands(
        ofClient configuration: DtlsConfiguration,
        _ verification: DtlsServerVerification,
        usesPreSharedKeys: Bool,
        asksApplication: Bool
    ) -> [UInt8] {
        let identity = configuration.identity.map { identity in
            identity.certificateChain.first?.sha256Fingerprint.description
                ?? identity.privateKey.publicKeyFingerprint.description
        }
        return digest([
            "client", "\(verification)", "\(usesPreSharedKeys)", "\(asksApplication)",
            "\(configuration.stapledStatus)", "\(configuration.rawPublicKeys)", identity ?? "",
            trust(configuration.trust),
        ])
    }

    /// A client's: its context's part, and what a connection adds to it. Empty when it cannot be computed, for want of
    /// memory: then nothing is resumed.
    static func ofClient(_ demands: [UInt8], serverName: String?, preSharedKey: DtlsPreSharedKey?) -> [UInt8] {
        guard demands.count == 32, let hash = KeyedHash.sha256 else { return [] }
        let name = serverName.map { Array($0.utf8) } ?? []
        var parts = demands
        // Without either, a connection differs from one with an empty one. The lengths keep them apart; HMAC does not
        // see the zeros at a key's end.
        parts.append(UInt8(serverName == nil ? 0 : 1) | UInt8(preSharedKey == nil ? 0 : 2))
        for count in [name.count, preSharedKey?.key.count ?? 0] {
            withUnsafeBytes(of: UInt64(count).bigEndian) { parts.append(contentsOf: $0) }
        }
        parts += name
        parts += preSharedKey?.identity ?? []
        func authenticate(with key: UnsafeRawBufferPointer) -> [UInt8] {
            parts.withUnsafeBytes { hash.authenticate($0, key: key) } ?? []
        }
        guard let key = preSharedKey?.key else { return authenticate(with: noKey) }
        return key.withUnsafeBytes { key in
            guard key.count > 64 else { return authenticate(with: key) }
            // No key may be longer than a block of the hash.
            var isDerived = false
            let short = DtlsSecretBytes(count: 32) { isDerived = hash.derive($0, from: noKey, seed: key) }
            return isDerived ? short.withUnsafeBytes { authenticate(with: $0) } : []
        }
    }

    private static var noKey: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: nil, count: 0) }

    private static func trust(_ trust: DtlsTrust?) -> String {
        guard let trust else { return "system" }
        let roots = trust.certificates.map { $0.sha256Fingerprint.description }.sorted()
        let pins = trust.pins.map { "\($0)" }.sorted()
        let lists = trust.revocationLists.map { $0.fingerprint.description }.sorted()
        return [
            "\(trust.includesSystemRoots)", roots.joined(separator: ","), pins.joined(separator: ","),
            lists.joined(separator: ","),
        ]
        .joined(separator: ";")
    }

    /// Lengths keep neighbouring parts apart.
    private static func digest(_ parts: [String]) -> [UInt8] {
        parts.flatMap { Array("\($0.utf8.count):\($0)".utf8) }
            .withUnsafeBytes { KeyedHash.sha256?.authenticate($0, key: noKey) } ?? []
    }
}
