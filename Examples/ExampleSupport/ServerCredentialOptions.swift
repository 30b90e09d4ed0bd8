public import ArgumentParser
public import DTLS

/// How a server proves who it is and whom it lets in, on its command line.
public struct ServerCredentialOptions: ParsableArguments {
    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A client's pre-shared key. Repeatable. A key that begins with hex: is read as hexadecimal digits.",
            valueName: "identity:key"
        )
    )
    public var psk: [String] = []

    @Option(help: ArgumentHelp("Hint that tells clients which identity to use.", valueName: "text"))
    public var pskHint: String?

    @Option(
        help: ArgumentHelp(
            "CA certificates in PEM. Clients are asked for a certificate, and one they show must lead to these.",
            valueName: "file"
        )
    )
    public var clientCa: String?

    @Flag(help: "Refuse clients that show no certificate. --fingerprint does, too.")
    public var requireClientCertificate = false

    @Option(
        help: ArgumentHelp(
            "Key of session tickets: 80 bytes in hexadecimal digits. Repeatable, the newest first; only that one makes new "
                + "tickets (default: a random one, replaced every hour).",
            valueName: "hex"
        )
    )
    public var ticketKey: [String] = []

    @OptionGroup
    public var connectionOptions: ConnectionOptions

    /// Made by the argument parser.
    public init() {}

    /// Refuses what no file or peer is needed to refuse.
    public func validate() throws {
        if psk.isEmpty, connectionOptions.certificate == nil {
            throw ValidationError(
                "no client could connect: give --psk IDENTITY:KEY, or --certificate FILE and --private-key FILE"
            )
        }
        if pskHint != nil, psk.isEmpty {
            throw ValidationError("--psk-hint needs --psk")
        }
        if clientCa != nil, connectionOptions.certificate == nil {
            throw ValidationError("--client-ca needs --certificate: only a server with one can ask clients for theirs")
        }
        if pinsClients, connectionOptions.certificate == nil {
            throw ValidationError(
                "--fingerprint needs --certificate: only a server with one can ask clients for theirs"
            )
        }
        if pinsClients, clientCa != nil {
            throw ValidationError(
                "--fingerprint alone decides about clients' certificates: it cannot go with --client-ca"
            )
        }
        if requireClientCertificate, clientCa == nil, !pinsClients {
            throw ValidationError("--require-client-certificate needs --client-ca or --fingerprint")
        }
        _ = try preSharedKeys()
        _ = try resumption()
    }

    /// The library's context with these options, the files read and opened.
    public func context() throws -> DtlsServerContext {
        var configuration = try connectionOptions.configuration()
        var clientCertificates = pinsClients ? DtlsClientCertificatePolicy.required : .none
        if let clientCa {
            configuration.trust = .certificates(try DtlsCertificate.certificates(pemFile: clientCa))
            clientCertificates = requireClientCertificate ? .required : .requested
        }
        return try DtlsServerContext(
            configuration,
            preSharedKeys: psk.isEmpty ? nil : DtlsPreSharedKeyStore(try preSharedKeys()),
            identityHint: pskHint.map { Array($0.utf8) },
            clientCertificates: clientCertificates,
            resumption: try resumption()
        )
    }

    /// Whether clients are known by the fingerprints of their certificates.
    private var pinsClients: Bool { !connectionOptions.fingerprint.isEmpty }

    private func resumption() throws -> DtlsServerResumption {
        guard !ticketKey.isEmpty else { return .automatic }
        return .tickets(try DtlsTicketKeys(secrets: try ticketKey.map { try ticketSecret(argument: $0) }))
    }

    private func preSharedKeys() throws -> [DtlsPreSharedKey] {
        let keys = try psk.map { try preSharedKey(argument: $0) }
        guard Set(keys.map(\.identity)).count == keys.count else {
            throw ValidationError("--psk was given twice for the same identity")
        }
        return keys
    }
}
