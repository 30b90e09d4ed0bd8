public import ArgumentParser
public import DTLS

/// What a server and a client have in common on their command lines.
public struct ConnectionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Settings to start from, which the other options override (default: modern).",
            valueName: "name"
        )
    )
    public var preset: Preset?

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
            "SHA-256 fingerprint of the peer's certificate: 64 hexadecimal digits, with or without colons. Repeatable. "
                + "A peer with another certificate is refused; who signed it, for what name and until when, does not count.",
            valueName: "sha256"
        ),
        transform: fingerprint(argument:)
    )
    public var fingerprint: [DtlsFingerprint] = []

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
            "Application protocol to agree on (ALPN), such as coap. Repeatable, in order of preference; the server's order "
                + "wins.",
            valueName: "name"
        )
    )
    public var alpn: [String] = []

    @Option(
        help: ArgumentHelp(
            "SRTP profile to agree on: \(srtpProfileNames). Repeatable, in order of preference; the server's order wins.",
            valueName: "profile"
        ),
        transform: srtpProfile(argument:)
    )
    public var srtp: [DtlsSRTPProfile] = []

    @Option(
        help: ArgumentHelp(
            "Most bytes a UDP payload may have, 256 to 65507. A message can have some 40 fewer (default: 1200, or what "
                + "--preset says).",
            valueName: "bytes"
        )
    )
    public var mtu: Int?

    @Option(
        help: ArgumentHelp(
            "Own Connection ID of so many random bytes, 0 to 32, so that the peer may go to another address; 0 only takes the "
                + "peer's (default: 0 for a client, 8 for a server).",
            valueName: "bytes"
        )
    )
    public var cid: Int?

    @Flag(help: "Do without Connection IDs, also without the peer's.")
    public var noCid = false

    @Option(
        help: ArgumentHelp(
            "Who seals and opens records after the handshake: this library, or OpenSSL, which knows no Connection IDs "
                + "(default: detached).",
            valueName: "name"
        )
    )
    public var recordLayer: RecordLayer?

    @Option(
        help: ArgumentHelp(
            "Append the secrets of every connection to a file, in NSS's format. Whoever reads it can read the connections.",
            valueName: "file"
        )
    )
    public var keylog: String?

    @Option(
        help: ArgumentHelp(
            "Write every datagram to a file for Wireshark and tshark (pcapng), with the secrets to decrypt it. What was "
                + "in the file before is lost.",
            valueName: "file"
        )
    )
    public var pcap: String?

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
        if let mtu, !(256...65507).contains(mtu) {
            throw ValidationError("--mtu must be from 256 to 65507")
        }
        if let cid, !(0...32).contains(cid) {
            throw ValidationError("--cid must be from 0 to 32")
        }
        if cid != nil, noCid {
            throw ValidationError("--cid and --no-cid exclude each other")
        }
        if cid != nil, recordLayer == .openssl {
            throw ValidationError("--cid cannot go with --record-layer openssl: OpenSSL knows no Connection IDs")
        }
        if !alpn.allSatisfy({ (1...255).contains($0.utf8.count) }) {
            throw ValidationError("the name of an application protocol (--alpn) must have 1 to 255 bytes")
        }
    }

    /// The library's configuration with these options, the files read and opened.
    public func configuration() throws -> DtlsConfiguration {
        var configuration = (preset ?? .modern).configuration
        if let mtu {
            configuration.mtu = mtu
        }
        if let cid {
            configuration.connectionIDs = cid == 0 ? .accepted : .random(length: cid)
        } else if noCid {
            configuration.connectionIDs = .off
        }
        if let recordLayer {
            configuration.recordLayer = recordLayer.setting
        }
        if let securityLevel {
            configuration.securityLevel = securityLevel
        }
        if let ciphers {
            configuration.cipherSuites = .openSSL(ciphers)
        }
        if !alpn.isEmpty {
            configuration.applicationProtocols = alpn
        }
        if !srtp.isEmpty {
            configuration.srtpProfiles = srtp
        }
        if !fingerprint.isEmpty {
            configuration.trust = .pins(fingerprint.map { .certificate($0) })
        }
        if let certificate {
            configuration.identity = try DtlsIdentity(
                certificateFile: certificate,
                privateKeyFile: privateKey ?? certificate
            )
        }
        configuration.keyLog = try keylog.map { try DtlsKeyLog(file: $0) }
        configuration.capture = try pcap.map { try DtlsCapture(file: $0) }
        return configuration
    }
}
