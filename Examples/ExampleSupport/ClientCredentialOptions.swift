public import ArgumentParser
public import DTLS

/// How a client proves who it is and whom it trusts, on its command line.
public struct ClientCredentialOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Pre-shared key. A key that begins with hex: is read as hexadecimal digits.",
            valueName: "identity:key"
        )
    )
    public var psk: String?

    @Option(help: ArgumentHelp("CA certificates in PEM that the server's must lead to.", valueName: "file"))
    public var ca: String?

    @Flag(help: "Trust the system's CA certificates, also beside --ca.")
    public var systemRoots = false

    @Option(help: ArgumentHelp("Name to send and to expect in the server's certificate.", valueName: "name"))
    public var serverName: String?

    @Flag(help: "Accept any certificate, whoever it is from. For tests only.")
    public var insecure = false

    @OptionGroup
    public var connectionOptions: ConnectionOptions

    /// Made by the argument parser.
    public init() {}

    /// Refuses what no file or peer is needed to refuse.
    public func validate() throws {
        if insecure, ca != nil || systemRoots {
            throw ValidationError("--insecure accepts every certificate: it cannot go with --ca or --system-roots")
        }
        if !connectionOptions.fingerprint.isEmpty, ca != nil || systemRoots || insecure {
            throw ValidationError(
                "--fingerprint alone decides about certificates: it cannot go with --ca, --system-roots or --insecure"
            )
        }
        if let psk {
            _ = try preSharedKey(argument: psk)
        }
    }

    /// The library's context with these options, the files read and opened.
    ///
    /// - Parameter program: What a warning about `--insecure` begins with.
    public func context(for program: String) throws -> DtlsClientContext {
        var configuration = try connectionOptions.configuration()
        if let ca {
            let roots = try DtlsCertificate.certificates(pemFile: ca)
            configuration.trust = .certificates(roots, andSystem: systemRoots)
        } else if systemRoots {
            configuration.trust = .system
        }
        if insecure {
            Console.note("\(program): --insecure: anybody can pose as this server")
        }
        return try DtlsClientContext(
            configuration,
            preSharedKey: try psk.map { try preSharedKey(argument: $0) },
            verification: insecure ? .insecureAcceptAnyCertificate : .chainAndName
        )
    }

    /// Names the options that help against the alert that says least.
    public func withAdvice(_ error: any Error) -> any Error {
        Self.withAdvice(error, usesPreSharedKey: psk != nil)
    }

    /// As ``withAdvice(_:)``, for who has not all options at hand.
    public static func withAdvice(_ error: any Error, usesPreSharedKey: Bool) -> any Error {
        guard let error = error as? DtlsError, let alert = error.alertReceived, alert.code == .handshakeFailure else {
            return error
        }
        let keys =
            usesPreSharedKey ? "know no pre-shared keys: leave --psk out" : "want a pre-shared key: --psk"
        return ExampleFailure(
            "\(error.message); alert received: \(alert.code) (the server may \(keys); or want a certificate: "
                + "--certificate; or other suites: --ciphers)"
        )
    }
}
