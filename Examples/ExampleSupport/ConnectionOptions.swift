public import ArgumentParser
public import DTLS

/// What a server and a client have in common on their command lines.
public struct ConnectionOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Own certificate in PEM, followed by its intermediates.", valueName: "file"))
    public var certificate: String?

    @Option(
        help: ArgumentHelp(
            "Private key of the certificate in PEM, not encrypted (default: the file of the certificate).",
            valueName: "file"
        )
    )
    public var privateKey: String?

    @Option(
        help: ArgumentHelp(
            "Cipher suites as an OpenSSL list, such as PSK-AES128-CCM8 (default: what the library thinks right).",
            valueName: "list"
        )
    )
    public var ciphers: String?

    @Option(help: ArgumentHelp("OpenSSL's security level, 0 to 5 (default: 2).", valueName: "level"))
    public var securityLevel: Int?

    @Option(
        help: ArgumentHelp(
            "Most bytes a UDP payload may have, 256 to 65507. A message can have some 40 fewer.",
            valueName: "bytes"
        )
    )
    public var mtu: Int = 1200

    /// Made by the argument parser.
    public init() {}

    /// Refuses what no file or peer is needed to refuse.
    public func validate() throws {
        if privateKey != nil, certificate == nil {
            throw ValidationError("--private-key needs --certificate")
        }
        if let securityLevel, !(0...5).contains(securityLevel) {
            throw ValidationError("--security-level must be from 0 to 5")
        }
        if !(256...65507).contains(mtu) {
            throw ValidationError("--mtu must be from 256 to 65507")
        }
    }

    /// The library's configuration with these options, the files read.
    public func configuration() throws -> DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.mtu = mtu
        configuration.securityLevel = securityLevel
        if let ciphers {
            configuration.cipherSuites = .openSSL(ciphers)
        }
        if let certificate {
            configuration.identity = try DtlsIdentity(
                certificateFile: certificate,
                privateKeyFile: privateKey ?? certificate
            )
        }
        return configuration
    }
}
