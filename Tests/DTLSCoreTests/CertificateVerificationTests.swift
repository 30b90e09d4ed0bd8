import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What is refused, on which side, and with which words.
final class CertificateVerificationTests: XCTestCase {
    private struct Expectation {
        let verdict: Int
        let alert: DtlsAlertDescription
        var depth = 0
    }

    /// Runs a handshake that the client must refuse, and checks what either side says of it.
    private func assertClientRefuses(
        _ options: PairOptions,
        _ expected: Expectation,
        file: StaticString = #filePath,
        line: UInt = #line
    ) throws {
        let pair = try EnginePair(options)
        try pair.connect()
        let error = try XCTUnwrap(pair.client.failure, "the client accepted: \(pair.story)", file: file, line: line)
        XCTAssertEqual(error.code, .certificateRejected, file: file, line: line)
        XCTAssertEqual(error.phase, .handshake, file: file, line: line)
        XCTAssertEqual(error.certificateVerdict?.code, expected.verdict, "\(error)", file: file, line: line)
        XCTAssertEqual(error.certificateVerdict?.depth, expected.depth, "\(error)", file: file, line: line)
        XCTAssertEqual(error.alertSent?.code, expected.alert, "\(error)", file: file, line: line)
        XCTAssertEqual(error.alertSent?.level, .fatal, file: file, line: line)
        XCTAssertNil(pair.client.finished, file: file, line: line)
        XCTAssertEqual(pair.client.ends.count, 1, file: file, line: line)

        try pair.passGraceOfAlerts()
        let told = try XCTUnwrap(try pair.serverPeer().failure, pair.story, file: file, line: line)
        XCTAssertEqual(told.code, .certificateRejected, "\(told)", file: file, line: line)
        XCTAssertEqual(told.alertReceived?.code, expected.alert, file: file, line: line)
        XCTAssertNil(told.certificateVerdict, "it is the client's verdict", file: file, line: line)
        XCTAssertNil(try pair.serverPeer().finished, file: file, line: line)
    }

    func testFault17Expired() throws {
        try assertClientRefuses(
            .certificates(TestIdentity.expired),
            Expectation(verdict: 10, alert: .certificateExpired)
        )
    }

    func testNotYetValid() throws {
        try assertClientRefuses(
            .certificates(TestIdentity.notYetValid),
            Expectation(verdict: 9, alert: .badCertificate)
        )
    }

    func testFault17UntrustedRoot() throws {
        try assertClientRefuses(.certificates(TestIdentity.stranger), Expectation(verdict: 20, alert: .unknownCA))
    }

    func testSelfSigned() throws {
        let identity = try DtlsIdentity.selfSigned(commonName: "localhost", names: ["localhost"])
        try assertClientRefuses(.certificates(identity), Expectation(verdict: 18, alert: .unknownCA))
    }

    func testFault17WrongUsage() throws {
        try assertClientRefuses(
            .certificates(TestIdentity.client),
            Expectation(verdict: 26, alert: .unsupportedCertificate)
        )
    }

    func testFault17WrongName() throws {
        try assertClientRefuses(
            .certificates(TestIdentity.wrongName),
            Expectation(verdict: 62, alert: .badCertificate)
        )
    }

    /// The common name is no name to check against where there are others.
    func testTheCommonNameDoesNotCount() throws {
        let wrong = try XCTUnwrap(TestIdentity.wrongName.certificateChain.first)
        XCTAssertEqual(wrong.subject, "CN=localhost", "or the test above would prove less")
    }

    func testWrongAddress() throws {
        for address in ["127.0.0.2", "::2"] {
            var options = try PairOptions.certificates()
            options.serverName = address
            try assertClientRefuses(options, Expectation(verdict: 64, alert: .badCertificate))
        }
    }

    func testAnAddressIsNoName() throws {
        var options = try PairOptions.certificates(
            CertificateMint(commonName: "127.0.0.1", names: ["localhost"], usage: .server).signed(by: TestIdentity.root)
        )
        options.serverName = "127.0.0.1"
        try assertClientRefuses(options, Expectation(verdict: 64, alert: .badCertificate))
    }

    /// Nobody is trusted where the list of roots is empty, not even by mistake for "the system's".
    func testAnEmptyTrustTrustsNobody() throws {
        var options = try PairOptions.certificates()
        options.client.trust = .certificates([])
        try assertClientRefuses(options, Expectation(verdict: 20, alert: .unknownCA))
    }

    func testTheSystemsRootsDoNotTrustTheTestsRoot() throws {
        var options = try PairOptions.certificates()
        options.client.trust = nil
        try assertClientRefuses(options, Expectation(verdict: 20, alert: .unknownCA))
    }

    func testNamesAndAddressesThatMatch() throws {
        for name in ["localhost", "LOCALHOST", "localhost.", "a.example.org", "127.0.0.1", "::1", "0:0::1", "::1%lo"] {
            var options = try PairOptions.certificates()
            options.serverName = name
            let pair = try EnginePair.connected(options)
            XCTAssertEqual(pair.client.eventNames, ["finished"], name)
        }
    }

    func testWildcardsStandForOneLabel() throws {
        for name in ["example.org", "a.b.example.org", "aexample.org"] {
            var options = try PairOptions.certificates()
            options.serverName = name
            try assertClientRefuses(options, Expectation(verdict: 62, alert: .badCertificate))
        }
    }

    /// A DNS name travels to the server; an address must not (RFC 6066 §3).
    func testServerNameIndication() throws {
        for (name, travels) in [("a.example.org", true), ("a.example.org.", true), ("127.0.0.1", false)] {
            var options = try PairOptions.certificates()
            options.serverName = name
            let pair = try EnginePair(options)
            pair.client.start()
            let hello = try XCTUnwrap(pair.client.sent.first)
            let text = String(decoding: hello, as: UTF8.self)
            XCTAssertEqual(text.contains("example.org"), travels, name)
            XCTAssertFalse(text.contains("example.org."), name)
            XCTAssertFalse(text.contains("127.0.0.1"), name)
        }
    }

    func testATrustedLeafNeedsNoRoot() throws {
        let selfSigned = try DtlsIdentity.selfSigned(commonName: "x", names: ["localhost"])
        for identity in [selfSigned, try TestIdentity.server] {
            var options = try PairOptions.certificates(identity)
            options.client.trust = .certificates(Array(identity.certificateChain.prefix(1)))
            XCTAssertTrue(try EnginePair.connected(options).isOpen)
        }
    }

    func testAnyNameWillDoWhenAskedForByItsName() throws {
        var options = try PairOptions.certificates(TestIdentity.wrongName)
        options.verification = .insecureIgnoreServerName
        for name in [nil, "localhost"] {
            options.serverName = name
            XCTAssertTrue(try EnginePair.connected(options).isOpen)
        }
        options.server.identity = try TestIdentity.stranger
        try assertClientRefuses(options, Expectation(verdict: 20, alert: .unknownCA))
    }

    func testAnyCertificateWillDoWhenAskedForByItsName() throws {
        for identity in [try TestIdentity.stranger, try TestIdentity.expired, try TestIdentity.client] {
            var options = try PairOptions.certificates(identity)
            options.client.trust = nil
            options.serverName = nil
            options.verification = .insecureAcceptAnyCertificate
            let pair = try EnginePair.connected(options)
            XCTAssertEqual(pair.client.finished?.peerCertificates, identity.certificateChain)
        }
    }

    func testAMissingServerNameIsAnError() throws {
        let options = try PairOptions.certificates()
        let context = try DtlsEngineContext(client: options.client)
        for name in [nil, ""] {
            assertThrows(.missingServerName) { try DtlsEngine(client: context, serverName: name) }
        }
    }

    /// A client that offers suites of pre-shared keys alone has no use for a name.
    func testNoServerNameIsNeededWithoutCertificates() throws {
        let context = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
        XCTAssertNoThrow(try DtlsEngine(client: context, serverName: nil))
        var both = DtlsConfiguration()
        both.trust = try TestIdentity.trust
        let offersBoth = try DtlsEngineContext(client: both, usesPreSharedKeys: true)
        assertThrows(.missingServerName) { try DtlsEngine(client: offersBoth, serverName: nil) }
    }

    func testNamesThatAreNoneAreRefused() throws {
        let context = try DtlsEngineContext(client: PairOptions.certificates().client)
        for name in [
            String(repeating: "a", count: 256), "a\0b", "localhost\0", "a.example:5684", "[::1]", "[::1]:5684", "::1 ",
            "https://a.example", "a.example/", "a.example ", " a.example", "a..b", ".a", "a..", "*.example",
            "ü.example", String(repeating: "a", count: 64) + ".example", "127.0.0.1:5684",
        ] {
            let error = assertThrows(.invalidConfiguration, name) {
                try DtlsEngine(client: context, serverName: name)
            }
            XCTAssertEqual(error?.hint?.contains("punycode"), true, name)
        }
    }

    /// Where nobody verifies a name, a local network may call its gadgets what it likes; others do not hear of it.
    func testANameThatIsNoneIsNotSentWhereItIsNotVerified() throws {
        for (name, sent) in [("Küche 2.local", nil), ("gadget.local", "gadget.local")] {
            var options = try PairOptions.preSharedKey()
            options.serverName = name
            let pair = try EnginePair(options)
            try pair.connect()
            XCTAssertTrue(pair.isOpen)
            XCTAssertEqual(try pair.serverPeer().finished?.clientOffer?.serverName, sent)
        }
    }

    func testNamesThatMayBe() throws {
        let context = try DtlsEngineContext(client: PairOptions.certificates().client)
        let label = String(repeating: "a", count: 63)
        for name in [
            "a", "a.example.", "A-1.b_2", "_dtls.example", "xn--bcher-kva.example", "\(label).\(label).example",
            [label, label, label, label].joined(separator: "."), "fe80::1%eth0", "192.0.2.1",
        ] {
            XCTAssertNoThrow(try DtlsEngine(client: context, serverName: name), name)
        }
    }

    func testAWrongNameIsToldBesideTheRightOnes() throws {
        func hint(_ identity: DtlsIdentity, _ name: String) throws -> String {
            var options = try PairOptions.certificates(identity)
            options.serverName = name
            let pair = try EnginePair(options)
            try pair.connect()
            return try XCTUnwrap(pair.client.failure?.hint, pair.story)
        }
        let wrong = try hint(TestIdentity.wrongName, "localhost")
        XCTAssertTrue(wrong.contains("localhost was expected"), wrong)
        XCTAssertTrue(wrong.contains("is for elsewhere.example.net;"), wrong)
        let address = try hint(TestIdentity.server, "192.0.2.1")
        XCTAssertTrue(address.contains("192.0.2.1 was expected"), address)
        XCTAssertTrue(address.contains("127.0.0.1"), address)
        // The names are the peer's text, and as many as the peer likes.
        let many = try hint(TestIdentity.large, "nowhere.example")
        XCTAssertTrue(many.contains(" more;"), many)
        XCTAssertLessThan(many.count, 1_200)
        let none = try hint(CertificateMint(commonName: "x", usage: .server).signed(by: TestIdentity.root), "localhost")
        XCTAssertTrue(none.contains("has no name"), none)
    }

    func testAnUnknownFingerprintIsTold() throws {
        let leaf = try XCTUnwrap(TestIdentity.server.certificateChain.first)
        let other = try XCTUnwrap(TestIdentity.rsaServer.certificateChain.first)
        var options = try PairOptions.certificates()
        options.client.trust = .pins([.certificate(other.sha256Fingerprint)])
        let pair = try EnginePair(options)
        try pair.connect()
        let hint = try XCTUnwrap(pair.client.failure?.hint, pair.story)
        XCTAssertTrue(hint.contains(leaf.sha256Fingerprint.description), hint)
        XCTAssertTrue(hint.contains(leaf.publicKeyFingerprint.description), hint)
    }

    /// Without its dot nothing is left of it, and OpenSSL takes an empty name for "verify no name".
    func testADotIsNoServerName() throws {
        let context = try DtlsEngineContext(client: PairOptions.certificates().client)
        assertThrows(.invalidConfiguration) { try DtlsEngine(client: context, serverName: ".") }
    }

    /// OpenSSL would let it match every subdomain.
    func testANameThatStartsWithADotMatchesNoSubdomain() throws {
        var options = try PairOptions.certificates()
        options.serverName = ".example.org"
        guard let pair = try? EnginePair(options) else { return }
        try pair.connect()
        XCTAssertNil(pair.client.finished, "*.example.org was accepted for .example.org")
    }
}
