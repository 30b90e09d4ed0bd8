import DTLSTestSupport
import Foundation
import XCTest

@testable import DTLSCore

/// Reading certificates, and what they say.
final class CertificateTests: XCTestCase {
    private func leaf() throws -> DtlsCertificate { try XCTUnwrap(TestIdentity.server.certificateChain.first) }
    private func other() throws -> DtlsCertificate { try XCTUnwrap(TestIdentity.client.certificateChain.first) }

    func testDERAndPEMRoundTrips() throws {
        let leaf = try leaf()
        XCTAssertEqual(try DtlsCertificate(der: leaf.der), leaf)
        XCTAssertEqual(try DtlsCertificate.certificates(pem: leaf.pem), [leaf])
        XCTAssertTrue(leaf.pem.hasPrefix("-----BEGIN CERTIFICATE-----\n"))
        XCTAssertEqual(try DtlsCertificate(der: leaf.der).hashValue, leaf.hashValue)
        XCTAssertNotEqual(leaf, try other())
    }

    func testDERThatIsNone() throws {
        let der = try leaf().der
        let broken: [(String, [UInt8])] = [
            ("empty", []), ("one byte", [0x30]), ("text", Array("hello".utf8)), ("PEM", Array(try leaf().pem.utf8)),
            ("without its end", Array(der.dropLast())), ("without its start", Array(der.dropFirst())),
            ("half", Array(der.prefix(der.count / 2))), ("zeros", [UInt8](repeating: 0, count: 500)),
        ]
        for (name, bytes) in broken { assertThrows(.invalidCertificate, name) { try DtlsCertificate(der: bytes) } }
    }

    func testDERWithTrailingBytes() throws {
        let leaf = try leaf()
        for tail in [[0], [0x30, 0x00], leaf.der] as [[UInt8]] {
            let error = assertThrows(.invalidCertificate) { try DtlsCertificate(der: leaf.der + tail) }
            XCTAssertEqual(error?.message.contains("\(tail.count) bytes follow"), true, "\(String(describing: error))")
        }
    }

    /// Any cut and any changed byte gives an error or a certificate, and leaves nothing in the error queue.
    func testDamagedDER() throws {
        let der = try leaf().der
        var generator = SeededGenerator(seed: 51)
        for _ in 0..<2_000 {
            var damaged = der
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                damaged[Int.random(in: damaged.indices, using: &generator)] = UInt8.random(
                    in: 0...255,
                    using: &generator
                )
            }
            if generator.happens(0.2) { damaged.removeLast(Int.random(in: 1...damaged.count, using: &generator)) }
            _ = try? DtlsCertificate(der: damaged)
            XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
        }
    }

    func testPEMThatIsNone() throws {
        let key = try TestIdentity.server.privateKey.pem().withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        for text in ["", " ", "hello", key, "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----\n"] {
            assertThrows(.invalidCertificate, text) { try DtlsCertificate.certificates(pem: text) }
        }
    }

    func testSeveralCertificatesWithTextAroundThem() throws {
        let (leaf, other) = (try leaf(), try other())
        let text = "the first:\n\(leaf.pem)\nthe second:\r\n\(other.pem)the third:\n\(leaf.pem)\n# end"
        XCTAssertEqual(try DtlsCertificate.certificates(pem: text), [leaf, other, leaf])
        let windows = text.replacingOccurrences(of: "\n", with: "\r\n")
        XCTAssertEqual(try DtlsCertificate.certificates(pem: windows), [leaf, other, leaf])
        let key = try TestIdentity.server.privateKey.pem().withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
        XCTAssertEqual(try DtlsCertificate.certificates(pem: key + leaf.pem + key + other.pem), [leaf, other])
    }

    /// A file with one bad certificate must not pass for a shorter one.
    func testABrokenSecondCertificate() throws {
        let (good, pem) = (try other().pem, try leaf().pem)
        var lines = pem.split(separator: "\n").map(String.init)
        lines[2] = "!!!! no base64 !!!!"
        let notBase64 = lines.joined(separator: "\n") + "\n"
        var wrongDER = pem.split(separator: "\n").map(String.init)
        wrongDER[1] = String(repeating: "A", count: 64)
        let withoutEnd = pem.components(separatedBy: "-----END").first ?? ""
        for (name, broken) in [
            ("no base64", notBase64), ("no certificate", wrongDER.joined(separator: "\n") + "\n"),
            ("no end", withoutEnd),
        ] {
            let error = assertThrows(.invalidCertificate, name) { try DtlsCertificate.certificates(pem: good + broken) }
            XCTAssertEqual(error?.message.contains("certificate 2"), true, "\(name): \(String(describing: error))")
            XCTAssertEqual(error?.openSSLErrors.isEmpty, false, name)
            assertThrows(.invalidCertificate, name) { try DtlsCertificate.certificates(pem: broken) }
        }
    }

    func testFiles() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).pem").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        XCTAssertTrue(FileManager.default.createFile(atPath: file, contents: Data(try leaf().pem.utf8)))
        XCTAssertEqual(try DtlsCertificate.certificates(pemFile: file), [try leaf()])
        XCTAssertTrue(FileManager.default.createFile(atPath: file, contents: Data()))
        let empty = assertThrows(.invalidCertificate) { try DtlsCertificate.certificates(pemFile: file) }
        XCTAssertEqual(empty?.message.contains(file), true)
    }

    func testFilesThatCannotBeRead() throws {
        let directory = FileManager.default.temporaryDirectory.path
        for (path, code) in [("/no/such/file.pem", ENOENT), (directory, EISDIR), ("", ENOENT)] {
            let error = assertThrows(.fileUnreadable, path) { try DtlsCertificate.certificates(pemFile: path) }
            XCTAssertEqual(error?.systemError, code, path)
            assertThrows(.fileUnreadable, path) { try DtlsPrivateKey(pemFile: path) }
            assertThrows(.fileUnreadable, path) { try DtlsIdentity(certificateFile: path, privateKeyFile: path) }
        }
    }

    /// The path ends up in the message; it must not end the line.
    func testPathsAreEscaped() {
        let error = assertThrows(.fileUnreadable) {
            try DtlsCertificate.certificates(pemFile: "/no\r\n\u{1B}[31m/such")
        }
        XCTAssertEqual(error?.description.contains(where: \.isNewline), false)
        XCTAssertEqual(error?.description.unicodeScalars.contains("\u{1B}"), false)
    }

    func testProperties() throws {
        let before = Int64(Date().timeIntervalSince1970)
        let mint = CertificateMint(
            commonName: "gerät",
            names: ["a.example.org", "*.b.example.org", "192.0.2.7", "2001:db8::1", "::ffff:1:2", "fe80::1:0:0:0"],
            validFor: .seconds(600)
        )
        let certificate = try XCTUnwrap(mint.signed(by: TestIdentity.root).certificateChain.first)
        XCTAssertEqual(certificate.subject, "CN=gerät")
        XCTAssertEqual(certificate.issuer, "CN=Test Root")
        XCTAssertEqual(certificate.dnsNames, ["a.example.org", "*.b.example.org"])
        XCTAssertEqual(certificate.ipAddresses, ["192.0.2.7", "2001:db8::1", "::ffff:1:2", "fe80::1:0:0:0"])
        XCTAssertEqual(certificate.uris, [])
        XCTAssertEqual(certificate.serialNumber.count, 32)
        XCTAssertLessThan(abs(certificate.notBefore - (before - 3_600)), 100)
        XCTAssertLessThan(abs(certificate.notAfter - (before + 600)), 100)
        XCTAssertEqual(certificate.description, "CN=gerät")
    }

    func testADateThatCannotBeRead() throws {
        var der = try leaf().der
        // The second UTCTime, behind its tag and its length of 13, is notAfter.
        let starts = der.indices.dropLast().filter { der[$0] == 0x17 && der[$0 + 1] == 13 }
        der[try XCTUnwrap(starts.dropFirst().first) + 2] = UInt8(ascii: "x")
        let certificate = try DtlsCertificate(der: der)
        XCTAssertEqual(certificate.notAfter, 0)
        XCTAssertGreaterThan(certificate.notBefore, 0)
    }

    /// Compared with the `openssl` program, which computes it independently.
    func testAgainstTheOpenSSLProgram() throws {
        let program = "/usr/bin/openssl"
        try XCTSkipUnless(FileManager.default.isExecutableFile(atPath: program), "there is no \(program)")
        let leaf = try leaf()
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).pem").path
        defer { try? FileManager.default.removeItem(atPath: file) }
        XCTAssertTrue(FileManager.default.createFile(atPath: file, contents: Data(leaf.pem.utf8)))
        // Not by Process, which leaks a weak reference on Linux.
        let command = "\(program) x509 -in \(file) -noout -fingerprint -sha256 -serial -subject -nameopt RFC2253"
        let pipe = try XCTUnwrap(popen(command, "r"))
        var text = ""
        var line = [CChar](repeating: 0, count: 1_024)
        while fgets(&line, 1_024, pipe) != nil {
            text += String(decoding: line.prefix { $0 != 0 }.map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self)
        }
        XCTAssertEqual(pclose(pipe), 0)
        XCTAssertTrue(text.lowercased().contains("sha256 fingerprint="), text)
        XCTAssertTrue(text.contains("=\(leaf.sha256Fingerprint)\n"), text)
        XCTAssertTrue(text.contains("serial=\(leaf.serialNumber)\n"), text)
        XCTAssertTrue(text.contains("subject=\(leaf.subject)\n"), text)
    }

    func testIPv6Text() {
        func text(_ groups: [UInt16]) -> String {
            IPv6Text.string(groups.flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] })
        }
        // RFC 5952 §4.2
        XCTAssertEqual(text([0, 0, 0, 0, 0, 0, 0, 0]), "::")
        XCTAssertEqual(text([0, 0, 0, 0, 0, 0, 0, 1]), "::1")
        XCTAssertEqual(text([1, 0, 0, 0, 0, 0, 0, 0]), "1::")
        XCTAssertEqual(text([0x2001, 0xDB8, 0, 1, 1, 1, 1, 1]), "2001:db8:0:1:1:1:1:1", "one zero group stays")
        XCTAssertEqual(text([0x2001, 0, 0, 1, 0, 0, 0, 1]), "2001:0:0:1::1", "the longest run")
        XCTAssertEqual(text([0x2001, 0xDB8, 0, 0, 1, 0, 0, 1]), "2001:db8::1:0:0:1", "the first of two")
        XCTAssertEqual(text([1, 2, 3, 4, 5, 6, 0, 0]), "1:2:3:4:5:6::")
        XCTAssertEqual(text([0xABCD, 2, 3, 4, 5, 6, 7, 8]), "abcd:2:3:4:5:6:7:8")
        XCTAssertEqual(IPv6Text.string([1, 2, 3]), "")
    }

    func testFingerprints() throws {
        // SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        let fingerprint = DtlsFingerprint(sha256Of: Array("abc".utf8))
        let text =
            "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD"
        XCTAssertEqual(fingerprint.description, text)
        XCTAssertEqual(DtlsFingerprint(text), fingerprint)
        XCTAssertEqual(DtlsFingerprint(text.lowercased()), fingerprint)
        XCTAssertEqual(DtlsFingerprint(text.replacingOccurrences(of: ":", with: "")), fingerprint)
        XCTAssertNotEqual(DtlsFingerprint(text.replacingOccurrences(of: "BA", with: "BB")), fingerprint)
        for wrong in ["", "BA", text + "00", String(text.dropLast()), "G" + text.dropFirst(), " " + text] {
            XCTAssertNil(DtlsFingerprint(wrong), wrong)
        }
    }
}
