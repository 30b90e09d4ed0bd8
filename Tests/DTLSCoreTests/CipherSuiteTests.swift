import DTLSTestSupport
import Foundation
import XCTest

@testable import DTLSCore

final class CipherSuiteTests: XCTestCase {
    /// Every suite of the automatic lists works, and the payload that fits exactly fills the MTU.
    func testEverySuiteOfTheAutomaticLists() throws {
        var tried: Set<String> = []
        for suite in DtlsCipherSuites.certificateSuites.map(\.openSSLName)
            + DtlsCipherSuites.preSharedKeySuites.map(\.openSSLName)
        {
            let options: PairOptions =
                if suite.contains("PSK") {
                    try .preSharedKey(suite)
                } else {
                    try .certificates(suite.contains("RSA") ? TestIdentity.rsaServer : TestIdentity.server, suite)
                }
            let pair = try EnginePair.connected(options)
            let server = try pair.serverPeer()
            for side in [pair.client, server] {
                let negotiated = try XCTUnwrap(side.finished)
                XCTAssertEqual(negotiated.cipherSuite.openSSLName, suite)
                XCTAssertEqual(negotiated.group != nil, suite.contains("ECDHE"), suite)
                XCTAssertEqual(negotiated.preSharedKeyIdentity != nil, suite.contains("PSK"), suite)
            }
            let largest = [UInt8](repeating: 7, count: pair.client.engine.maximumPayloadSize)
            try pair.client.send(largest)
            XCTAssertEqual(pair.client.sent.last?.count, 1_200, suite)
            try pair.pump()
            XCTAssertTrue(server.payloads == [largest], suite)
            try pair.assertEchoes(suite)
            tried.insert(suite)
        }
        XCTAssertEqual(tried.count, 12)
    }

    /// The defaults contain no suite without forward secrecy but for plain pre-shared keys, and none that is no AEAD.
    func testAutomaticListsAreAsPromised() throws {
        for list in [
            DtlsCipherSuites.certificateSuites.map(\.openSSLName),
            DtlsCipherSuites.preSharedKeySuites.map(\.openSSLName),
        ] {
            // OpenSSL knows every one of them.
            XCTAssertEqual(try OpenSSLTweaks.suites(list.joined(separator: ":")).count, list.count)
            for name in list {
                XCTAssertTrue(["GCM", "CCM", "POLY1305"].contains { name.contains($0) }, name)
                XCTAssertTrue(name.hasPrefix("ECDHE-") || name.hasPrefix("PSK-"), name)
                XCTAssertFalse(name.contains("CCM8"), name)
            }
        }
    }

    func testTheHelloOffersWhatTheContextHasCredentialsFor() throws {
        func offered(_ configuration: DtlsConfiguration, keys: Bool) throws -> [UInt16] {
            let context = try DtlsEngineContext(client: configuration, usesPreSharedKeys: keys)
            let client = EnginePeer(try DtlsEngine(client: context, serverName: "localhost"))
            client.start()
            let hello = try XCTUnwrap(client.sent.first)
            let layout = try hello.withUnsafeBytes { try ClientHelloLayout($0) }
            return hello.withUnsafeBytes { layout.hello(in: $0) }.offer.cipherSuites.filter { $0 != 0x00FF }
        }
        let certificates: [UInt16] = [0xC02B, 0xC02F, 0xCCA9, 0xCCA8, 0xC02C, 0xC030, 0xC0AC]
        let keys: [UInt16] = [0xCCAC, 0x00A8, 0xCCAB, 0x00A9, 0xC0A4]
        var trusting = DtlsConfiguration()
        trusting.trust = try TestIdentity.trust
        XCTAssertEqual(try offered(DtlsConfiguration(), keys: false), certificates)
        XCTAssertEqual(try offered(DtlsConfiguration(), keys: true), keys)
        XCTAssertEqual(try offered(trusting, keys: true), certificates + keys)
    }

    /// What CoAP prescribes, at OpenSSL's default level (which counts it as 64-bit from 3.2 on).
    func testCCM8ByNameAtSecurityLevel2() throws {
        for (options, id) in [
            (try PairOptions.preSharedKey("PSK-AES128-CCM8"), UInt16(0xC0A8)),
            (try PairOptions.certificates(nil, "ECDHE-ECDSA-AES128-CCM8"), 0xC0AE),
        ] {
            let pair = try EnginePair.connected(options)
            let negotiated = try XCTUnwrap(pair.client.finished)
            XCTAssertEqual(negotiated.cipherSuite.id, id)
            XCTAssertEqual(pair.client.engine.maximumPayloadSize, 1_200 - 13 - 16)
            let largest = [UInt8](repeating: 7, count: pair.client.engine.maximumPayloadSize)
            try pair.client.send(largest)
            XCTAssertEqual(pair.client.sent.last?.count, 1_200)
            try pair.assertEchoes()
        }
    }

    /// Naming CCM8 lowers the level for nothing else.
    func testCCM8DoesNotOpenTheDoorForWeakSuites() throws {
        var options = try PairOptions.preSharedKey("PSK-NULL-SHA256:PSK-AES128-CCM8")
        options.client.cipherSuites = .openSSL("PSK-NULL-SHA256@SECLEVEL=0")
        options.client.securityLevel = 0
        let pair = try EnginePair(options)
        try pair.connect()
        XCTAssertEqual(try pair.serverPeer().failure?.code, .handshakeFailed)
        XCTAssertFalse(pair.isOpen)
    }

    /// A ClientHello with every suite that OpenSSL has is larger than most; it passes the gate.
    func testAHelloWithEverySuite() throws {
        var options = try PairOptions.preSharedKey()
        options.client.cipherSuites = .openSSL("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        options.client.trust = try TestIdentity.trust
        options.serverName = "localhost"
        let pair = try EnginePair.connected(options)
        let hello = try XCTUnwrap(pair.client.sent.first)
        XCTAssertGreaterThan(hello.count, 400)
        XCTAssertEqual(pair.gateReplies.count, 1)
        XCTAssertNotNil(pair.client.finished?.preSharedKeyIdentity)
        try pair.assertEchoes()
    }

    func testTheServersOrderWins() throws {
        var options = try PairOptions.preSharedKey()
        options.client.cipherSuites = .openSSL("PSK-AES128-CCM:PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256")
        options.server.cipherSuites = .openSSL("PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256:PSK-AES128-CCM")
        XCTAssertEqual(
            try EnginePair.connected(options).client.finished?.cipherSuite.openSSLName,
            "PSK-AES256-GCM-SHA384"
        )
    }

    func testNoSharedSuiteNamesBothSidesSuites() throws {
        var options = try PairOptions.preSharedKey()
        options.client.cipherSuites = .openSSL("PSK-AES128-GCM-SHA256")
        options.server.cipherSuites = .openSSL("PSK-AES256-GCM-SHA384")
        let pair = try EnginePair(options)
        try pair.connect()
        let error = try XCTUnwrap(try pair.serverPeer().failure)
        XCTAssertEqual(error.code, .handshakeFailed)
        XCTAssertEqual(error.alertSent?.code, .handshakeFailure)
        let hint = try XCTUnwrap(error.hint)
        XCTAssertTrue(hint.contains("the client offered PSK-AES128-GCM-SHA256"), hint)
        let own = try XCTUnwrap(hint.components(separatedBy: "this side accepts ").last)
        XCTAssertTrue(own.contains("PSK-AES256-GCM-SHA384"), hint)
        XCTAssertTrue(own.contains("it has no certificate"), hint)
        XCTAssertTrue(error.description.contains("no shared cipher"), error.description)

        try pair.passGraceOfAlerts()
        let told = try XCTUnwrap(pair.client.failure)
        XCTAssertEqual(told.code, .handshakeFailed)
        XCTAssertEqual(told.alertReceived?.code, .handshakeFailure)
        XCTAssertTrue(try XCTUnwrap(told.hint).contains("cipher"))
    }

    /// A suite that OpenSSL does not know stands in the message with its number.
    func testUnknownSuitesAreNamedByNumber() throws {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .openSSL("PSK-AES128-GCM-SHA256")
        configuration.requiresExtendedMasterSecret = false
        let context = try DtlsEngineContext(server: configuration, usesPreSharedKeys: true)
        var hello = HandmadeHello()
        hello.suites = [0xFAFA, 0x00A9]
        let server = EnginePeer(try DtlsEngine(server: context, hello: hello.accepted()))
        server.start()
        let error = try XCTUnwrap(server.failure)
        let hint = try XCTUnwrap(error.hint)
        XCTAssertTrue(hint.contains("the client offered 0xfafa, PSK-AES256-GCM-SHA384;"), hint)
    }

    /// The hint speaks of the suites that this side could use: those of TLS 1.3, which OpenSSL lists beside every list,
    /// are none of them, nor is the client's signal for secure renegotiation a suite.
    func testTheHintNamesOnlySuitesThatCouldBeUsed() throws {
        var options = try PairOptions.preSharedKey()
        options.client.cipherSuites = .openSSL("PSK-AES128-GCM-SHA256")
        options.server.cipherSuites = .openSSL("PSK-AES256-GCM-SHA384")
        let pair = try EnginePair(options)
        try pair.connect()
        let hint = try XCTUnwrap(try pair.serverPeer().failure?.hint)
        XCTAssertFalse(hint.contains("TLS_"), hint)
    }

    func testListsThatSelectNothingAreRefused() throws {
        for list in ["", "nonsense", "PSK-AES128-GCM-SHA256\0", "\r\n", "!ALL", "TLS_AES_128_GCM_SHA256"] {
            var configuration = DtlsConfiguration()
            configuration.cipherSuites = .openSSL(list)
            let error = assertThrows(.invalidConfiguration, list) {
                try DtlsEngineContext(client: configuration, usesPreSharedKeys: true)
            }
            XCTAssertEqual(error?.description.contains(where: \.isNewline), false)
        }
    }

    /// The error says what typed suites need that the context has not.
    func testTypedSuitesThatFitNoCredentials() throws {
        var configuration = DtlsConfiguration()
        func complaints(keys: Bool) -> [String] {
            [
                assertThrows(.invalidConfiguration) {
                    try DtlsEngineContext(client: configuration, usesPreSharedKeys: keys)
                },
                assertThrows(.invalidConfiguration) {
                    try DtlsEngineContext(server: configuration, usesPreSharedKeys: keys)
                },
            ].map { $0?.message ?? "" }
        }
        configuration.cipherSuites = .suites([.ecdheECDSAWithAES128GCM])
        for message in complaints(keys: true) { XCTAssertTrue(message.hasSuffix("they need a certificate"), message) }
        configuration.identity = try TestIdentity.server
        configuration.cipherSuites = .suites([.pskWithAES128GCM])
        for message in complaints(keys: false) {
            XCTAssertTrue(message.hasSuffix("they need a pre-shared key"), message)
        }
        configuration.cipherSuites = .suites([])
        for message in complaints(keys: true) { XCTAssertTrue(message.hasSuffix("is empty"), message) }
    }

    /// A key that the level finds too small is refused when the context is made, not when the first client comes.
    func testAKeyTooSmallForTheLevelIsRefused() throws {
        var configuration = DtlsConfiguration()
        configuration.identity = try TestIdentity.rsaServer
        XCTAssertNoThrow(try DtlsEngineContext(server: configuration))
        configuration.securityLevel = 3
        let error = assertThrows(.invalidConfiguration) { try DtlsEngineContext(server: configuration) }
        XCTAssertEqual(error?.openSSLErrors.isEmpty, false)
        configuration.identity = try TestIdentity.server
        XCTAssertNoThrow(try DtlsEngineContext(server: configuration), "P-256 has 128 bits")
    }

    /// From level 3 on OpenSSL wants forward secrecy, which a plain pre-shared key has not.
    func testTheSecurityLevelReachesOpenSSL() throws {
        for (level, works) in [(2, true), (3, false)] {
            var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
            options.server.securityLevel = level
            let pair = try EnginePair(options)
            try pair.connect()
            XCTAssertEqual(pair.isOpen, works, "level \(level): \(pair.story)")
        }
    }

    /// CBC suites work when they are named, with encrypt-then-MAC off.
    func testCBCByName() throws {
        let pair = try EnginePair.connected(.preSharedKey("PSK-AES128-CBC-SHA256"))
        let size = pair.client.engine.maximumPayloadSize
        XCTAssertGreaterThan(size, 1_000)
        try pair.client.send([UInt8](repeating: 1, count: size))
        XCTAssertLessThanOrEqual(try XCTUnwrap(pair.client.sent.last).count, 1_200)
        try pair.assertEchoes()
    }

    func testDTLS10WhereEverythingWasLoweredForIt() throws {
        var options = try PairOptions.preSharedKey("PSK-AES128-CBC-SHA:@SECLEVEL=0")
        options.client.securityLevel = 0
        options.server.securityLevel = 0
        options.client.minimumVersion = .v1_0
        options.client.maximumVersion = .v1_0
        options.server.minimumVersion = .v1_0
        let pair = try EnginePair.connected(options)
        XCTAssertEqual(pair.client.finished?.version, .v1_0)
        try pair.assertEchoes()
    }

    func testAnOldVersionIsRefused() throws {
        var options = try PairOptions.preSharedKey("PSK-AES128-CBC-SHA:@SECLEVEL=0")
        options.client.securityLevel = 0
        options.client.minimumVersion = .v1_0
        options.client.maximumVersion = .v1_0
        let pair = try EnginePair(options)
        try pair.connect()
        let error = try XCTUnwrap(try pair.serverPeer().failure, pair.story)
        XCTAssertEqual(error.code, .handshakeFailed)
        try pair.passGraceOfAlerts()
        XCTAssertEqual(pair.client.failure?.alertReceived?.code, .protocolVersion)
        XCTAssertTrue(try XCTUnwrap(pair.client.failure?.hint).contains("version"))
    }
}
