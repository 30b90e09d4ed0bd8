import DTLSTestSupport
import Foundation
import XCTest

@testable import DTLSCore

/// Private keys, and certificates together with them.
final class IdentityTests: XCTestCase {
    private let passphrase = "correct horse battery staple"

    private func assertIs(
        _ key: DtlsPrivateKey,
        theKeyOf identity: DtlsIdentity,
        file: StaticString = #filePath,
        line: UInt = #line
    ) {
        XCTAssertNoThrow(
            try DtlsIdentity(certificateChain: identity.certificateChain, privateKey: key),
            file: file,
            line: line
        )
    }

    private func identities() throws -> [DtlsIdentity] {
        [try TestIdentity.server, try TestIdentity.rsaServer, try .selfSigned(commonName: "e", key: .ed25519)]
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    func testPlainPEMAndDER() throws {
        for identity in try identities() {
            let pem = try identity.privateKey.pem().withUnsafeBytes { text(Array($0)) }
            XCTAssertTrue(pem.hasPrefix("-----BEGIN PRIVATE KEY-----\n"), "PKCS#8")
            assertIs(try DtlsPrivateKey(pem: pem), theKeyOf: identity)
            assertIs(try DtlsPrivateKey(pem: "text before\n" + pem + "text after"), theKeyOf: identity)
            let passphrase = DtlsSecretBytes(utf8: passphrase)
            assertIs(try DtlsPrivateKey(pem: pem, passphrase: passphrase), theKeyOf: identity)
            assertIs(
                try DtlsPrivateKey(der: try OpenSSLTweaks.encode(identity.privateKey, as: .der)),
                theKeyOf: identity
            )
        }
    }

    func testEncryptedPEM() throws {
        let identity = try TestIdentity.server
        for format in [OpenSSLTweaks.KeyFormat.encryptedPEM(passphrase), .traditionalPEM(passphrase)] {
            let pem = text(try OpenSSLTweaks.encode(identity.privateKey, as: format))
            XCTAssertTrue(pem.contains("ENCRYPTED"), pem)
            assertIs(try DtlsPrivateKey(pem: pem, passphrase: DtlsSecretBytes(utf8: passphrase)), theKeyOf: identity)

            let missing = assertThrows(.invalidPrivateKey) { try DtlsPrivateKey(pem: pem) }
            XCTAssertEqual(missing?.message.contains("is encrypted"), true, "\(String(describing: missing))")
            XCTAssertEqual(missing?.hint, "give its passphrase")
            for wrong in ["", "wrong", passphrase + "x", String(repeating: "x", count: 5_000)] {
                let error = assertThrows(.invalidPrivateKey, wrong) {
                    try DtlsPrivateKey(pem: pem, passphrase: DtlsSecretBytes(utf8: wrong))
                }
                XCTAssertEqual(error?.description.contains(passphrase), false)
                XCTAssertEqual(error?.message.contains("passphrase"), true, "\(String(describing: error))")
            }
        }
    }

    func testEncryptedDER() throws {
        let identity = try TestIdentity.server
        let der = try OpenSSLTweaks.encode(identity.privateKey, as: .encryptedDER(passphrase))
        assertIs(try DtlsPrivateKey(der: der, passphrase: DtlsSecretBytes(utf8: passphrase)), theKeyOf: identity)
        assertThrows(.invalidPrivateKey, "missing") { try DtlsPrivateKey(der: der) }
        for wrong in ["", "wrong"] {
            assertThrows(.invalidPrivateKey) { try DtlsPrivateKey(der: der, passphrase: DtlsSecretBytes(utf8: wrong)) }
        }
    }

    /// DER does not say whether it is encrypted, so a passphrase stands for "it is".
    func testAPassphraseForADERKeyThatNeedsNone() throws {
        let der = try OpenSSLTweaks.encode(TestIdentity.server.privateKey, as: .der)
        let error = assertThrows(.invalidPrivateKey) {
            try DtlsPrivateKey(der: der, passphrase: DtlsSecretBytes(utf8: passphrase))
        }
        XCTAssertEqual(error?.message.contains("passphrase"), true)
    }

    func testKeysThatAreNone() throws {
        let certificate = try XCTUnwrap(TestIdentity.server.certificateChain.first)
        for text in ["", "hello", certificate.pem, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assertThrows(.invalidPrivateKey, text) { try DtlsPrivateKey(pem: text) }
        }
        let der = try OpenSSLTweaks.encode(TestIdentity.server.privateKey, as: .der)
        for bytes in [[], [0x30], certificate.der, Array(der.dropLast())] {
            assertThrows(.invalidPrivateKey) { try DtlsPrivateKey(der: bytes) }
        }
    }

    func testDamagedKeys() throws {
        let der = try OpenSSLTweaks.encode(TestIdentity.server.privateKey, as: .der)
        var generator = SeededGenerator(seed: 61)
        for _ in 0..<500 {
            var damaged = der
            damaged[Int.random(in: damaged.indices, using: &generator)] ^= UInt8.random(in: 1...255, using: &generator)
            _ = try? DtlsPrivateKey(der: damaged)
            XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
        }
    }

    func testKeysOfOthers() throws {
        let (server, client) = (try TestIdentity.server, try TestIdentity.client)
        for key in [client.privateKey, try TestIdentity.rsaServer.privateKey] {
            let error = assertThrows(.privateKeyMismatch) {
                try DtlsIdentity(certificateChain: server.certificateChain, privateKey: key)
            }
            XCTAssertEqual(error?.description.contains(where: \.isNewline), false)
        }
        assertThrows(.invalidCertificate) { try DtlsIdentity(certificateChain: [], privateKey: server.privateKey) }
        let behind = try TestIdentity.serverBehindIntermediate
        assertThrows(.privateKeyMismatch, "the own certificate comes first") {
            try DtlsIdentity(certificateChain: behind.certificateChain.reversed(), privateKey: behind.privateKey)
        }
    }

    func testFiles() throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let identity = try TestIdentity.serverBehindIntermediate
        let chain = directory.appendingPathComponent("chain.pem").path
        let key = directory.appendingPathComponent("key.pem").path
        let pem = try OpenSSLTweaks.encode(identity.privateKey, as: .encryptedPEM(passphrase))
        try Data(identity.certificateChain.map(\.pem).joined().utf8).write(to: URL(fileURLWithPath: chain))
        try Data(pem).write(to: URL(fileURLWithPath: key))
        let read = try DtlsIdentity(
            certificateFile: chain,
            privateKeyFile: key,
            passphrase: DtlsSecretBytes(utf8: passphrase)
        )
        XCTAssertEqual(read.certificateChain, identity.certificateChain)
        assertThrows(.invalidPrivateKey) { try DtlsIdentity(certificateFile: chain, privateKeyFile: key) }
        assertThrows(.invalidCertificate) { try DtlsIdentity(certificateFile: key, privateKeyFile: key) }
    }

    func testSelfSignedOfEveryKind() throws {
        let kinds: [(DtlsKeyKind, String)] = [
            (.p256, "<EC private key, 256 bits>"), (.p384, "<EC private key, 384 bits>"),
            (.ed25519, "<ED25519 private key, 256 bits>"), (.rsa(), "<RSA private key, 2048 bits>"),
        ]
        for (kind, description) in kinds {
            let identity = try DtlsIdentity.selfSigned(commonName: "x", names: ["localhost", "::1"], key: kind)
            let certificate = try XCTUnwrap(identity.certificateChain.first)
            XCTAssertEqual(identity.certificateChain.count, 1)
            XCTAssertEqual(identity.privateKey.description, description)
            XCTAssertEqual(certificate.subject, certificate.issuer)
            XCTAssertEqual(certificate.dnsNames, ["localhost"])
            XCTAssertEqual(certificate.ipAddresses, ["::1"])
            guard kind != .ed25519 else { continue }
            // Ed25519 works in DTLS from OpenSSL 4.1 on.
            var options = try PairOptions.certificates(identity)
            options.client.trust = .certificates(identity.certificateChain)
            XCTAssertTrue(try EnginePair.connected(options).isOpen)
        }
        let (one, two) = (try DtlsIdentity.selfSigned(commonName: "x"), try DtlsIdentity.selfSigned(commonName: "x"))
        XCTAssertNotEqual(one.certificateChain.first?.serialNumber, two.certificateChain.first?.serialNumber)
    }

    func testNamesThatCannotStandInACertificate() throws {
        for name in ["", "a b", "a,DNS:b", "a;b", "a=b", "a\nb", "a\"b", "a'b", "a#b", "a\\b", "é"] {
            assertThrows(.invalidConfiguration, name) { try DtlsIdentity.selfSigned(commonName: "x", names: [name]) }
        }
        for commonName in ["", String(repeating: "x", count: 65)] {
            assertThrows(.invalidConfiguration) { try DtlsIdentity.selfSigned(commonName: commonName) }
        }
        for bits in [0, 1_024, 2_047, 8_193] {
            assertThrows(.invalidConfiguration) { try DtlsIdentity.selfSigned(commonName: "x", key: .rsa(bits: bits)) }
        }
        let certificate = try XCTUnwrap(
            DtlsIdentity.selfSigned(commonName: "x", names: ["@section"]).certificateChain.first
        )
        XCTAssertEqual(certificate.dnsNames, ["@section"], "no file and no section is read")
    }

    /// What lies beyond the year 9999 would give a certificate whose dates nobody can read.
    func testValiditiesOutOfTheirRangeAreRefused() throws {
        let remaining = Duration.seconds(253_402_300_799 - Int64(Date().timeIntervalSince1970))
        for validity in [
            Duration.zero, .milliseconds(999), .seconds(-1), .seconds(Int64.min), remaining + .seconds(1),
            .seconds(Int64.max),
        ] {
            let error = assertThrows(.invalidConfiguration, "\(validity)") {
                try DtlsIdentity.selfSigned(commonName: "x", validity: validity)
            }
            XCTAssertEqual(error?.hint?.contains("9999"), true)
        }
        // A minute for a machine that is busy.
        for validity in [Duration.seconds(1), remaining - .seconds(60)] {
            let now = Int64(Date().timeIntervalSince1970)
            let identity = try DtlsIdentity.selfSigned(commonName: "x", validity: validity)
            let certificate = try XCTUnwrap(identity.certificateChain.first)
            XCTAssertLessThan(abs(certificate.notAfter - now - validity.components.seconds), 60, "\(validity)")
        }
    }

    /// What a system call has failed with stands there in words.
    func testAKeyThatIsNotThereIsToldInTheSystemsWords() throws {
        let error = assertThrows(.invalidPrivateKey) { try DtlsPrivateKey(uri: "file:/nonexistent/key.pem") }
        let reasons = try XCTUnwrap(error).openSSLErrors.map(\.reason)
        XCTAssertTrue(reasons.contains("No such file or directory"), "\(reasons)")
    }

    func testAPrivateKeyNeverShows() throws {
        let key = try TestIdentity.server.privateKey
        let pem = try key.pem().withUnsafeBytes { text(Array($0)) }
        let line = try XCTUnwrap(pem.split(separator: "\n").dropFirst().first)
        var dumped = ""
        dump(try TestIdentity.server, to: &dumped)
        dump(try key.pem(), to: &dumped)
        for text in ["\(key)", String(reflecting: key), dumped] { XCTAssertFalse(text.contains(line)) }
    }
}
