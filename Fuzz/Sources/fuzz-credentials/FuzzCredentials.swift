import DTLSCore
import FuzzSupport

/// Whatever the library reads besides datagrams: PEM, DER, sessions, fingerprints, names and lists. A typed error or a
/// value must come of it, and what the value says of itself must not trap.
struct FuzzCredentials: FuzzTarget {
    private let samples: Samples

    init() throws {
        samples = try Samples()
    }

    func run(_ input: FuzzInput) throws {
        var input = input
        let kind = input.byte() % 16
        let bytes = input.rest()
        do {
            switch kind {
            case 0: inspect(try DtlsCertificate(der: bytes))
            case 1: try DtlsCertificate.certificates(pem: text(bytes)).forEach(inspect)
            case 2: try DtlsCertificate.certificates(pem: Samples.pem("CERTIFICATE", bytes)).forEach(inspect)
            case 3: inspect(try DtlsPrivateKey(der: bytes))
            case 4: inspect(try DtlsPrivateKey(pem: text(bytes)))
            case 5: inspect(try DtlsPrivateKey(pem: Samples.pem(Samples.keyLabel(bytes.first ?? 0), bytes.dropFirst())))
            case 6: try trust(DtlsRevocationList.lists(pem: text(bytes)))
            case 7: try trust(DtlsRevocationList.lists(pem: Samples.pem("X509 CRL", bytes)))
            case 8: try samples.resumeClient(bytes)
            case 9: try samples.resumeServer(bytes)
            case 10: readFingerprint(text(bytes))
            case 11: try configure(text(bytes))
            case 12: try samples.connectClient(to: text(bytes))
            case 13: try samples.staple(bytes)
            case 14: try readIdentity(bytes)
            default: try readSecrets(bytes)
            }
        } catch let error as DtlsError {
            require(!error.description.isEmpty && error.code.description.count > 3, "an error without words")
            _ = (error.hint, error.openSSLErrors.map(\.description), error.hashValue)
        }
    }

    func seeds() throws -> [(name: String, bytes: [UInt8])] {
        let identity = samples.identity
        let certificate = identity.certificateChain[0]
        let key = try identity.privateKey.pem().withUnsafeBytes { Array($0) }
        let named = try DtlsIdentity.selfSigned(
            commonName: "büro",
            names: ["a.example.org", "*.example.org", "192.0.2.1", "2001:db8::1"],
            key: .ed25519
        ).certificateChain[0]
        let rsa = try DtlsIdentity.selfSigned(commonName: "rsa", key: .rsa())
        let rsaKey = try rsa.privateKey.pem().withUnsafeBytes { Array($0) }
        let session = samples.session.bytes.withUnsafeBytes { Array($0) }
        let stored = samples.stored.contents.withUnsafeBytes { Array($0) }
        return [
            ("der", [0] + certificate.der), ("der-named", [0] + named.der),
            ("der-rsa", [0] + rsa.certificateChain[0].der),
            ("pem", [1] + Array((certificate.pem + named.pem).utf8)), ("wrapped", [2] + named.der),
            ("key-der", [3] + Samples.der(ofPEM: key)), ("key-pem", [4] + key),
            ("key-wrapped", [5, 0] + Samples.der(ofPEM: key)),
            ("key-rsa-pem", [4] + rsaKey), ("key-rsa-der", [3] + Samples.der(ofPEM: rsaKey)),
            ("list", [6] + Array(Samples.pem("X509 CRL", Samples.revocationList).utf8)),
            ("list-wrapped", [7] + Samples.revocationList),
            ("session", [8] + session), ("stored", [9] + stored),
            ("fingerprint", [10] + Array(certificate.sha256Fingerprint.description.utf8)),
            ("suites", [11] + Array("ECDHE+AESGCM:PSK-AES128-CCM8\nP-256:X25519\nECDSA+SHA256\ncoap".utf8)),
            ("name", [12] + Array("server.example.org".utf8)), ("address", [12] + Array("fe80::1%eth0".utf8)),
            ("ocsp", [13] + [0x30, 0x03, 0x0A, 0x01, 0x06]),
            ("identity", [14] + key + Array(certificate.pem.utf8)),
            ("secrets", [15, 2, 80] + [UInt8](repeating: 3, count: 200)),
        ]
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private func inspect(_ certificate: DtlsCertificate) {
        _ = (certificate.description, certificate.pem, certificate.subject, certificate.issuer, certificate.hashValue)
        _ = (certificate.serialNumber, certificate.dnsNames, certificate.ipAddresses, certificate.uris)
        _ = (certificate.notBefore, certificate.notAfter, certificate.sha256Fingerprint.description)
        readFingerprint(certificate.publicKeyFingerprint.description)
        // What was read once reads again as the same.
        require((try? DtlsCertificate(der: certificate.der)) == certificate, "its own DER is another certificate")
        samples.trust(certificate)
    }

    private func inspect(_ key: DtlsPrivateKey) {
        _ = (key.description, key.publicKeyFingerprint, try? key.pem().count)
        _ = try? DtlsIdentity(certificateChain: samples.identity.certificateChain, privateKey: key)
        samples.serve(DtlsIdentity(rawPublicKeyOf: key))
    }

    private func trust(_ lists: [DtlsRevocationList]) throws {
        var configuration = DtlsConfiguration()
        configuration.trust = .certificates(samples.identity.certificateChain)
        configuration.trust?.revocationLists = lists
        _ = try DtlsEngineContext(client: configuration)
    }

    private func readFingerprint(_ text: String) {
        guard let fingerprint = DtlsFingerprint(text) else { return }
        require(fingerprint.bytes.count == 32, "a fingerprint of \(fingerprint.bytes.count) bytes")
        require(DtlsFingerprint(fingerprint.description) == fingerprint, "a fingerprint reads as another")
    }

    /// Suites, groups, signature algorithms and protocols, one line each.
    private func configure(_ text: String) throws {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        func names(_ index: Int) -> [String]? {
            lines.indices.contains(index) ? lines[index].split(separator: ":").map(String.init) : nil
        }
        var configuration = DtlsConfiguration()
        configuration.trust = .certificates([])
        if let list = lines.first { configuration.cipherSuites = .openSSL(list) }
        configuration.groups = names(1)?.map { DtlsGroup(openSSLName: $0) }
        configuration.signatureAlgorithms = names(2)?.map { DtlsSignatureAlgorithm(openSSLName: $0) }
        configuration.applicationProtocols = names(3) ?? []
        let context = try DtlsEngineContext(client: configuration, usesPreSharedKeys: true)
        let engine = try DtlsEngine(client: context, serverName: "localhost")
        engine.start()
    }

    private func readIdentity(_ bytes: [UInt8]) throws {
        let text = text(bytes)
        let chain = try DtlsCertificate.certificates(pem: text)
        let identity = try DtlsIdentity(certificateChain: chain, privateKey: DtlsPrivateKey(pem: text))
        samples.serve(identity)
    }

    private func readSecrets(_ bytes: [UInt8]) throws {
        var input = FuzzInput(bytes)
        let secrets = (0..<(input.byte() % 6)).map { _ in DtlsSecretBytes(input.counted()) }
        _ = secrets.map(\.description)
        let key = try? DtlsPreSharedKey(identity: input.counted(), key: secrets.first ?? DtlsSecretBytes([]))
        if let key { try samples.connectClient(with: key) }
        _ = try? DtlsCookieSecrets(secrets: secrets)
        _ = try DtlsTicketKeys(secrets: secrets)
    }
}

/// What libFuzzer calls first.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ arguments: UnsafeMutableRawPointer?) -> CInt {
    FuzzCredentials.prepare()
    return 0
}
