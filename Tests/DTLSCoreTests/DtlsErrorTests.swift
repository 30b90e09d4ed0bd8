import DTLSTestSupport
import XCTest

@testable import DTLSCore

final class DtlsErrorTests: XCTestCase {
    private let nasty = "a\r\nb\u{1B}[31m\u{202E}c\u{2028}d\u{0}\u{85}"

    private func assertOneLine(_ text: String, file: StaticString = #filePath, line: UInt = #line) {
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator:
                XCTFail("U+\(String(scalar.value, radix: 16)) in \(text.debugDescription)", file: file, line: line)
            default:
                break
            }
        }
    }

    func testSanitizing() {
        XCTAssertEqual("plain é 漢 🙂".sanitized(), "plain é 漢 🙂")
        XCTAssertEqual("a\r\nb".sanitized(), "a\\u{d}\\u{a}b")
        XCTAssertEqual("\u{1B}[0m".sanitized(), "\\u{1b}[0m")
        XCTAssertEqual("\u{202E}".sanitized(), "\\u{202e}")
        assertOneLine(nasty.sanitized())
        XCTAssertEqual(String(repeating: "x", count: 256).sanitized(), String(repeating: "x", count: 256))
        XCTAssertEqual(String(repeating: "x", count: 10_000).sanitized(), String(repeating: "x", count: 256) + "…")
        XCTAssertEqual("abc".sanitized(limit: 2), "ab…")
        XCTAssertEqual("".sanitized(), "")
        // A letter with a thousand accents is one Character, but a thousand and one scalars.
        XCTAssertLessThan(("e" + String(repeating: "\u{301}", count: 1_000)).sanitized().unicodeScalars.count, 300)
    }

    /// A certificate whose subject would break a log: what is shown of it is one line.
    func testAPeersSubjectIsEscaped() throws {
        let mint = CertificateMint(commonName: "x\r\nERROR \u{1B}[2J\u{202E}y", names: ["localhost"])
        let identity = try mint.selfSigned()
        let certificate = try XCTUnwrap(identity.certificateChain.first)
        assertOneLine(certificate.description)
        let pair = try EnginePair(.certificates(identity))
        try pair.connect()
        let error = try XCTUnwrap(pair.client.failure)
        XCTAssertEqual(error.certificateVerdict?.code, 18)
        XCTAssertNotNil(error.certificateVerdict?.subject)
        assertOneLine(error.description)
        assertOneLine(try XCTUnwrap(error.certificateVerdict).description)
        let mismatch = assertThrows(.privateKeyMismatch) {
            try DtlsIdentity(certificateChain: identity.certificateChain, privateKey: TestIdentity.client.privateKey)
        }
        assertOneLine(try XCTUnwrap(mismatch).description)
    }

    func testFault25TheCallersTextIsEscaped() throws {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .openSSL(nasty)
        assertOneLine(
            try XCTUnwrap(assertThrows(.invalidConfiguration) { try DtlsEngineContext(client: configuration) })
                .description
        )
        let context = try DtlsEngineContext(client: PairOptions.certificates().client)
        let name = assertThrows(.invalidConfiguration) { try DtlsEngine(client: context, serverName: nasty) }
        assertOneLine(try XCTUnwrap(name).description)
        let commonName = assertThrows(.invalidConfiguration) {
            try DtlsIdentity.selfSigned(commonName: String(repeating: nasty, count: 20))
        }
        assertOneLine(try XCTUnwrap(commonName).description)
    }

    func testTheDescriptionSaysEverything() {
        let error = DtlsError(
            .certificateRejected,
            phase: .handshake,
            "what happened",
            hint: "what to do",
            alertSent: DtlsAlert(level: .fatal, code: .unknownCA),
            alertReceived: DtlsAlert(level: .fatal, code: .badCertificate),
            certificateVerdict: DtlsCertificateVerdict(code: 20, reason: "no issuer", depth: 1, subject: "CN=\nx"),
            openSSLErrors: [
                DtlsOpenSSLError(code: 1, reason: "reason one", detail: ""),
                DtlsOpenSSLError(code: 2, reason: "reason two", detail: "detail"),
            ]
        )
        XCTAssertEqual(
            error.description,
            "what happened; alert sent: unknown_ca (48); alert received: bad_certificate (42); "
                + "certificate: no issuer (20) at depth 1, CN=\\u{a}x; "
                + "OpenSSL: reason one, reason two: detail (what to do)"
        )
        XCTAssertEqual(DtlsError(.cancelled, "just this").description, "just this")
    }

    func testEqualityAndMatching() {
        let one = DtlsError(.payloadTooLarge, "a")
        XCTAssertEqual(one, DtlsError(.payloadTooLarge, "a"))
        XCTAssertEqual(one.hashValue, DtlsError(.payloadTooLarge, "a").hashValue)
        XCTAssertNotEqual(one, DtlsError(.payloadTooLarge, "b"))
        XCTAssertNotEqual(one, DtlsError(.cancelled, "a"))
        XCTAssertNotEqual(one, DtlsError(.payloadTooLarge, phase: .established, "a"))
        XCTAssertNotEqual(one, DtlsError(.payloadTooLarge, "a", systemError: 1))
        XCTAssertTrue(DtlsError.Code.payloadTooLarge ~= one)
        XCTAssertFalse(DtlsError.Code.cancelled ~= one)
        XCTAssertEqual(DtlsError.Code.handshakeTimedOut.description, "handshakeTimedOut")
    }

    /// A certificate that was accepted because anyone is must not be blamed for what failed afterwards.
    func testAnAcceptedCertificateIsNotBlamed() throws {
        var options = try PairOptions.certificates(TestIdentity.stranger)
        options.client.trust = nil
        options.serverName = nil
        options.verification = .insecureAcceptAnyCertificate
        let pair = try EnginePair(options)
        pair.rewriteToClient = { datagram in
            guard var records = RecordDump.parse(datagram) else { return datagram }
            // The last byte of the ServerKeyExchange belongs to its signature.
            for index in records.indices where records[index].handshakeType == 12 {
                records[index].body[records[index].body.count - 1] ^= 1
            }
            return records.flatMap(\.bytes)
        }
        try pair.connect()
        let error = try XCTUnwrap(pair.client.failure, pair.story)
        XCTAssertEqual(error.alertSent?.code, .decryptError, "\(error)")
        XCTAssertEqual(error.code, .handshakeFailed, "\(error)")
        XCTAssertNil(error.certificateVerdict)
    }
}
