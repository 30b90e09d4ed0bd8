import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What a server demands of its clients' certificates.
final class ClientCertificateTests: XCTestCase {
    private func options(_ policy: DtlsClientCertificatePolicy, client: DtlsIdentity?) throws -> PairOptions {
        var options = try PairOptions.certificates()
        options.client.identity = client
        options.server.trust = try TestIdentity.trust
        options.clientCertificates = policy
        return options
    }

    func testAMissingCertificateFailsOnTheServerWhereItIsRequired() throws {
        let pair = try EnginePair(options(.required, client: nil))
        try pair.connect()
        let server = try pair.serverPeer()
        let error = try XCTUnwrap(server.failure, pair.story)
        XCTAssertEqual(error.code, .certificateRejected)
        XCTAssertNil(error.certificateVerdict)
        XCTAssertEqual(error.alertSent?.code, .handshakeFailure)
        XCTAssertTrue(error.message.contains("no certificate"), error.message)
        XCTAssertNil(server.finished)

        XCTAssertNil(pair.client.finished, "the server has not said Finished")
        try pair.passGraceOfAlerts()
        let told = try XCTUnwrap(pair.client.failure, pair.story)
        XCTAssertEqual(told.code, .handshakeFailed)
        XCTAssertEqual(told.alertReceived?.code, .handshakeFailure)
    }

    /// A certificate that is given is verified, whether it had to be given or not.
    func testBadCertificatesAreRefused() throws {
        let stranger = try CertificateMint(commonName: "client", usage: .client)
            .signed(by: CertificateMint(commonName: "Strange Root", usage: .authority).selfSigned())
        let cases: [(DtlsIdentity, Int, DtlsAlertDescription, DtlsError.Code)] = [
            (stranger, 20, .unknownCA, .certificateRejected),
            (try TestIdentity.server, 26, .unsupportedCertificate, .certificateRejected),
            (try DtlsIdentity.selfSigned(commonName: "client"), 18, .unknownCA, .certificateRejected),
        ]
        for policy in [DtlsClientCertificatePolicy.requested, .required] {
            for (identity, verdict, alert, clientCode) in cases {
                let pair = try EnginePair(options(policy, client: identity))
                try pair.connect()
                let error = try XCTUnwrap(try pair.serverPeer().failure, pair.story)
                XCTAssertEqual(error.code, .certificateRejected)
                XCTAssertEqual(error.certificateVerdict?.code, verdict, "\(error)")
                XCTAssertEqual(error.alertSent?.code, alert, "\(error)")
                XCTAssertNil(pair.client.finished)
                try pair.passGraceOfAlerts()
                let told = try XCTUnwrap(pair.client.failure, pair.story)
                XCTAssertEqual(told.code, clientCode)
                XCTAssertEqual(told.alertReceived?.code, alert)
            }
        }
    }

    /// The request names the issuers that are accepted, so that a client can choose among several certificates.
    func testTheRequestNamesTheTrustedIssuers() throws {
        let pair = try EnginePair(options(.required, client: TestIdentity.client))
        try pair.connect()
        let flight = try pair.serverPeer().sent.flatMap { RecordDump.parse($0) ?? [] }
        let request = try XCTUnwrap(flight.first { $0.handshakeType == 13 }, "no CertificateRequest")
        XCTAssertTrue(String(decoding: request.body, as: UTF8.self).contains("Test Root"))
    }

    func testContextsThatContradictThemselvesAreRefused() throws {
        assertThrows(.invalidConfiguration) { try DtlsEngineContext(server: DtlsConfiguration()) }
        for policy in [DtlsClientCertificatePolicy.requested, .required] {
            assertThrows(.invalidConfiguration, "client certificates without an own one") {
                try DtlsEngineContext(
                    server: DtlsConfiguration(),
                    usesPreSharedKeys: true,
                    clientCertificates: policy
                )
            }
        }
    }
}
