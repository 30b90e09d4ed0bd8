package import DTLSCore

extension DtlsEngineContext {
    /// A server's context with the settings that most tests need, in one line.
    package convenience init(
        server configuration: DtlsConfiguration,
        usesPreSharedKeys: Bool,
        preSharedKeys: [[UInt8]: DtlsSecretBytes]? = nil,
        identityHint: [UInt8]? = nil,
        unknownIdentity: DtlsUnknownIdentityPolicy = .pretendWrongKey,
        clientCertificates: DtlsClientCertificatePolicy = .none
    ) throws(DtlsError) {
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = usesPreSharedKeys
        settings.preSharedKeys = preSharedKeys
        settings.identityHint = identityHint
        settings.unknownIdentity = unknownIdentity
        settings.clientCertificates = clientCertificates
        try self.init(server: configuration, settings: settings)
    }
}
