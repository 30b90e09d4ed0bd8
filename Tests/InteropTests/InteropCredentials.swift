import DTLS
import Foundation

/// The pre-shared key of all tests.
enum InteropKey {
    static let identity = "Client_identity"
    static let text = "secretPSK"
    static let hex = Array(text.utf8).map { String(format: "%02x", $0) }.joined()

    static func preSharedKey() throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: identity, key: Array(text.utf8))
    }

    static func store() throws -> DtlsPreSharedKeyStore {
        DtlsPreSharedKeyStore([try preSharedKey()])
    }

    /// A key of the same identity that is not the right one.
    static func wrong() throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: identity, key: Array("notThisOne".utf8))
    }
}

/// A certificate chain and its private key, in files and in memory.
struct InteropCredentials: Sendable {
    let certificateFile: String
    let privateKeyFile: String
    let identity: DtlsIdentity

    /// What a peer must trust to accept a self-signed certificate.
    var trust: DtlsTrust { .certificates(identity.certificateChain) }
}

extension Peers {
    /// The names in every leaf certificate.
    static let leafNames = ["localhost", "127.0.0.1", "::1"]

    /// A self-signed certificate, made by the library.
    func selfSigned(_ name: String, key: DtlsKeyKind = .p256) throws -> InteropCredentials {
        let identity = try DtlsIdentity.selfSigned(commonName: name, names: Self.leafNames, key: key)
        let certificates = identity.certificateChain.map(\.pem).joined()
        let privateKey = try identity.privateKey.pem().withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        return InteropCredentials(
            certificateFile: try write(certificates, to: "\(name).pem"),
            privateKeyFile: try write(privateKey, to: "\(name).key"),
            identity: identity
        )
    }

    /// A file with the pre-shared key, as gnutls-serv wants it.
    func gnuTLSKeyFile() throws -> String {
        try write("\(InteropKey.identity):\(InteropKey.hex)\n", to: "psk.txt")
    }

    /// A certification authority, made by `openssl`.
    func authority(_ name: String = "ca") async throws -> InteropAuthority {
        let authority = InteropAuthority(
            peers: self,
            certificateFile: directory.appendingPathComponent("\(name).pem").path,
            privateKeyFile: directory.appendingPathComponent("\(name).key").path
        )
        try await authority.make(name)
        return authority
    }
}

/// A root that issues certificates for the tests.
struct InteropAuthority: Sendable {
    let peers: Peers
    let certificateFile: String
    let privateKeyFile: String

    var trust: DtlsTrust {
        get throws { .certificates(try DtlsCertificate.certificates(pemFile: certificateFile)) }
    }

    fileprivate func make(_ name: String) async throws {
        let usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        let files = ["-keyout", privateKeyFile, "-out", certificateFile]
        try await request(name, Self.p256 + files + usage)
    }

    /// Issues a certificate for a server or a client.
    func issue(_ name: String, rsa: Bool = false) async throws -> InteropCredentials {
        let certificateFile = peers.directory.appendingPathComponent("\(name).pem").path
        let privateKeyFile = peers.directory.appendingPathComponent("\(name).key").path
        let names = Peers.leafNames.map { $0.contains("1") ? "IP:\($0)" : "DNS:\($0)" }.joined(separator: ",")
        let extensions = [
            "subjectAltName=\(names)", "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth,clientAuth",
        ]
        let issuer = ["-CA", self.certificateFile, "-CAkey", self.privateKeyFile]
        let files = ["-keyout", privateKeyFile, "-out", certificateFile]
        let key = rsa ? ["-newkey", "rsa:2048"] : Self.p256
        try await request(name, key + issuer + files + extensions.flatMap { ["-addext", $0] })
        return InteropCredentials(
            certificateFile: certificateFile,
            privateKeyFile: privateKeyFile,
            identity: try DtlsIdentity(certificateFile: certificateFile, privateKeyFile: privateKeyFile)
        )
    }

    private static let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]

    private func request(_ name: String, _ arguments: [String]) async throws {
        try peers.makeDirectory()
        let subject = ["-x509", "-nodes", "-days", "2", "-subj", "/CN=\(name)"]
        let openSSL = try peers.start("openssl", ["req"] + subject + arguments)
        guard try await openSSL.waitForExit() == 0 else {
            throw PeerFailure(description: "no certificate for \(name)\n\(openSSL.description)")
        }
    }
}
