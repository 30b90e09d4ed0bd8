/// What a session stands for beside its secret: the demands that were met when it was made. A context with other
/// demands must not resume it.
enum SessionFingerprint {
    /// 32 bytes, OpenSSL's limit for a session ID context. Hosts with the same settings have the same.
    static func ofServer(_ settings: DtlsServerSettings, _ configuration: DtlsConfiguration) -> [UInt8] {
        digest([
            "server", "\(settings.clientCertificates)", "\(settings.usesPreSharedKeys)", "\(settings.asksApplication)",
            "\(settings.applicationOverrules)", "\(configuration.rawPublicKeys)", trust(configuration.trust),
        ])
    }

    static func ofClient(
        _ context: DtlsEngineContext,
        serverName: String?,
        preSharedKey: DtlsPreSharedKey?
    ) -> [UInt8] {
        let configuration = context.configuration
        let identity = configuration.identity.map { identity in
            identity.certificateChain.first?.sha256Fingerprint.description
                ?? identity.privateKey.publicKeyFingerprint.description
        }
        let key = preSharedKey.map { key in
            DtlsFingerprint(sha256Of: key.identity + key.key.withUnsafeBytes { Array($0) }).description
        }
        return digest([
            "client", "\(context.verification)", "\(context.usesPreSharedKeys)", "\(context.asksApplication)",
            "\(configuration.stapledStatus)", "\(configuration.rawPublicKeys)", serverName ?? "", identity ?? "",
            key ?? "", trust(configuration.trust),
        ])
    }

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
        DtlsFingerprint(sha256Of: parts.flatMap { Array("\($0.utf8.count):\($0)".utf8) }).bytes
    }
}
