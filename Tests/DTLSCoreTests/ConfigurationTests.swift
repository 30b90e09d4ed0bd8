import DTLSTestSupport
import XCTest

@testable import DTLSCore

final class ConfigurationTests: XCTestCase {
    private func assertValid(_ message: String, _ change: (inout DtlsConfiguration) -> Void) {
        var configuration = DtlsConfiguration()
        change(&configuration)
        XCTAssertNoThrow(try configuration.validate(), message)
    }

    private func assertInvalid(_ message: String, _ change: (inout DtlsConfiguration) -> Void) {
        var configuration = DtlsConfiguration()
        change(&configuration)
        let error = assertThrows(.invalidConfiguration, message) { try configuration.validate() }
        XCTAssertEqual(error?.phase, .configuration)
        // Contexts of both roles look before they make anything.
        assertThrows(.invalidConfiguration, message) {
            try DtlsEngineContext(client: configuration, usesPreSharedKeys: true)
        }
        assertThrows(.invalidConfiguration, message) {
            try DtlsEngineContext(server: configuration, usesPreSharedKeys: true)
        }
    }

    func testDefaults() throws {
        let configuration = DtlsConfiguration()
        XCTAssertNoThrow(try configuration.validate())
        XCTAssertEqual(configuration.minimumVersion, .v1_2)
        XCTAssertEqual(configuration.maximumVersion, .v1_2)
        XCTAssertEqual(configuration.cipherSuites, .automatic)
        XCTAssertNil(configuration.securityLevel)
        XCTAssertTrue(configuration.requiresExtendedMasterSecret)
        XCTAssertEqual(configuration.mtu, 1_200)
        XCTAssertEqual(configuration.handshakeTimeout, .seconds(30))
        XCTAssertEqual(configuration.retransmission.initialTimeout, .milliseconds(400))
        XCTAssertEqual(configuration.retransmission.factor, 2)
        XCTAssertEqual(configuration.retransmission.maximumTimeout, .seconds(4))
        XCTAssertEqual(configuration.retransmission.jitter, 0.1)
        XCTAssertEqual(configuration.retransmission.maximumAttempts, 12)
    }

    func testMTU() {
        for mtu in [256, 1_200, 65_507] { assertValid("\(mtu)") { $0.mtu = mtu } }
        for mtu in [Int.min, -1, 0, 255, 65_508, Int.max] { assertInvalid("\(mtu)") { $0.mtu = mtu } }
    }

    func testSecurityLevel() {
        for level in [nil, 0, 5] as [Int?] { assertValid("\(level as Any)") { $0.securityLevel = level } }
        for level in [Int.min, -1, 6, Int.max] { assertInvalid("\(level)") { $0.securityLevel = level } }
    }

    func testVersions() {
        assertValid("1.0 to 1.2") { $0.minimumVersion = .v1_0 }
        assertInvalid("1.2 to 1.0") { $0.maximumVersion = .v1_0 }
        XCTAssertLessThan(DtlsVersion.v1_0, .v1_2)
        XCTAssertFalse(DtlsVersion.v1_2 < .v1_0)
        XCTAssertEqual(DtlsVersion.v1_2.description, "DTLSv1.2")
        XCTAssertEqual(DtlsVersion.v1_0.description, "DTLSv1.0")
        XCTAssertEqual(DtlsVersion(wireValue: 0xFEFB).description, "DTLS(0xfefb)")
        XCTAssertEqual(DtlsVersion.v1_3.description, "DTLSv1.3")
    }

    func testHandshakeTimeout() {
        for timeout in [Duration.nanoseconds(1), .seconds(30), .seconds(86_400)] {
            assertValid("\(timeout)") { $0.handshakeTimeout = timeout }
        }
        for timeout in [Duration.zero, .seconds(-1), .seconds(86_400) + .nanoseconds(1), .seconds(Int64.max)] {
            assertInvalid("\(timeout)") { $0.handshakeTimeout = timeout }
        }
    }

    func testInitialTimeout() {
        for timeout in [Duration.milliseconds(20), .seconds(60)] {
            assertValid("\(timeout)") {
                $0.retransmission.initialTimeout = timeout
                $0.retransmission.maximumTimeout = .seconds(60)
            }
        }
        for timeout in [Duration.zero, .seconds(-1), .microseconds(19_999), .seconds(60) + .nanoseconds(1)] {
            assertInvalid("\(timeout)") {
                $0.retransmission.initialTimeout = timeout
                $0.retransmission.maximumTimeout = .seconds(60)
            }
        }
    }

    func testMaximumTimeout() {
        for timeout in [Duration.milliseconds(400), .seconds(60)] {
            assertValid("\(timeout)") { $0.retransmission.maximumTimeout = timeout }
        }
        for timeout in [Duration.zero, .milliseconds(399), .seconds(60) + .nanoseconds(1)] {
            assertInvalid("\(timeout)") { $0.retransmission.maximumTimeout = timeout }
        }
    }

    func testFactor() {
        for factor in [1.0, 2.5, 10] { assertValid("\(factor)") { $0.retransmission.factor = factor } }
        for factor in [0, 0.999, -1, 10.001, .infinity, -.infinity, .nan] {
            assertInvalid("\(factor)") { $0.retransmission.factor = factor }
        }
    }

    func testJitter() {
        for jitter in [0, 0.1, 0.5] { assertValid("\(jitter)") { $0.retransmission.jitter = jitter } }
        for jitter in [-0.001, 0.501, 1, .infinity, .nan] {
            assertInvalid("\(jitter)") { $0.retransmission.jitter = jitter }
        }
    }

    func testMaximumAttempts() {
        for attempts in [0, 12] { assertValid("\(attempts)") { $0.retransmission.maximumAttempts = attempts } }
        for attempts in [Int.min, -1, 13, Int.max] {
            assertInvalid("\(attempts)") { $0.retransmission.maximumAttempts = attempts }
        }
    }

    /// Lists that hold nothing, or something twice, are not taken for names that OpenSSL does not know.
    func testListsOfAlgorithms() throws {
        func complaint(_ change: (inout DtlsConfiguration) -> Void) -> String {
            var configuration = DtlsConfiguration()
            change(&configuration)
            return assertThrows(.invalidConfiguration) { try DtlsEngineContext(client: configuration) }?.message ?? ""
        }
        XCTAssertEqual(complaint { $0.groups = [] }, "the list of groups is empty")
        XCTAssertEqual(complaint { $0.signatureAlgorithms = [] }, "the list of signature algorithms is empty")
        XCTAssertEqual(
            complaint { $0.srtpProfiles = [.aeadAES128GCM, .aes128CMSHA1_80, .aeadAES128GCM] },
            "the SRTP profile SRTP_AEAD_AES_128_GCM is listed twice"
        )
        let unknown = complaint { $0.groups = [DtlsGroup(openSSLName: "P-255")] }
        XCTAssertTrue(unknown.hasSuffix("are not known to OpenSSL"), unknown)
    }

    func testTrust() throws {
        XCTAssertTrue(DtlsTrust.system.includesSystemRoots)
        XCTAssertEqual(DtlsTrust.system.certificates, [])
        let root = try TestIdentity.root.certificateChain
        XCTAssertFalse(DtlsTrust.certificates(root).includesSystemRoots)
        XCTAssertTrue(DtlsTrust.certificates(root, andSystem: true).includesSystemRoots)
        var options = try PairOptions.certificates()
        options.client.trust = .certificates(root + root, andSystem: true)
        XCTAssertTrue(try EnginePair.connected(options).isOpen, "a root twice is no error")
    }

    func testContextsRememberWhatTheyWereMadeFrom() throws {
        var configuration = DtlsConfiguration()
        configuration.identity = try TestIdentity.server
        configuration.mtu = 999
        let client = try DtlsEngineContext(client: configuration, verification: .insecureIgnoreServerName)
        XCTAssertEqual(client.role, .client)
        XCTAssertEqual(client.configuration.mtu, 999)
        XCTAssertEqual(client.verification, .insecureIgnoreServerName)
        let server = try DtlsEngineContext(
            server: configuration,
            usesPreSharedKeys: false,
            clientCertificates: .requested
        )
        XCTAssertEqual(server.role, .server)
        XCTAssertEqual(server.settings.clientCertificates, .requested)
    }
}
