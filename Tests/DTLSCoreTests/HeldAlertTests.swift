import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// An alert in clear may be forged. It is believed only when nothing better comes within the first retransmission
/// timeout.
final class HeldAlertTests: XCTestCase {
    private func startedClient(_ options: PairOptions? = nil) throws -> EnginePair {
        let pair = try EnginePair(options ?? .preSharedKey())
        pair.start()
        return pair
    }

    func testAFatalAlertEndsTheHandshakeAfterItsGrace() throws {
        let pair = try startedClient()
        let now = ContinuousClock.now
        pair.client.receive(RecordDump.alert(level: 2, code: 40).bytes, now: now)
        XCTAssertEqual(pair.client.events.count, 0)
        let deadline = try XCTUnwrap(pair.client.engine.nextDeadline)
        XCTAssertLessThanOrEqual(deadline, now + .milliseconds(400))
        pair.client.handleTimeout(now: now + .milliseconds(399))
        XCTAssertEqual(pair.client.ends, [], "not before its time")
        pair.client.handleTimeout(now: now + .milliseconds(400))
        let error = try XCTUnwrap(pair.client.failure)
        XCTAssertEqual(error.alertReceived, DtlsAlert(level: .fatal, code: .handshakeFailure))
        XCTAssertEqual(error.phase, .handshake)
        XCTAssertNil(pair.client.engine.nextDeadline)
        XCTAssertEqual(pair.client.ends.count, 1)
    }

    /// Repeating the alert does not put its end off.
    func testRepeatedAlertsDoNotProlongTheGrace() throws {
        let pair = try startedClient()
        let now = ContinuousClock.now
        for step in 0..<4 {
            pair.client.receive(
                RecordDump.alert(level: 2, code: 40).bytes,
                now: now + .milliseconds(100 * step)
            )
        }
        pair.client.handleTimeout(now: now + .milliseconds(400))
        XCTAssertNotNil(pair.client.failure)
    }

    func testAnAlertIsForgottenWhenThePeerGoesOn() throws {
        for options in [try PairOptions.preSharedKey(), try .certificates()] {
            let pair = try startedClient(options)
            let now = ContinuousClock.now
            pair.client.receive(RecordDump.alert(level: 2, code: 40).bytes, now: now)
            // The HelloVerifyRequest: genuine progress.
            XCTAssertTrue(try pair.step())
            XCTAssertNil(pair.client.engine.attached?.filter.heldAlert)
            let deadline = try XCTUnwrap(pair.client.engine.nextDeadline)
            XCTAssertNotEqual(deadline, now + .milliseconds(400), "the alert's deadline is gone")
            try pair.pump()
            try pair.passGraceOfAlerts()
            try pair.assertEchoes()
        }
    }

    /// The server holds an alert as well, and forgets it when the client's flight comes.
    func testTheServerForgetsToo() throws {
        var options = try PairOptions.preSharedKey()
        options.usesGate = false
        let pair = try startedClient(options)
        let server = try pair.serverPeer()
        XCTAssertTrue(try pair.step())
        server.receive(RecordDump.alert(level: 2, code: 48).bytes)
        XCTAssertNotNil(server.engine.attached?.filter.heldAlert)
        try pair.pump()
        try pair.passGraceOfAlerts()
        try pair.assertEchoes()
    }

    /// An alert that lies behind the handshake's records in the same datagram is the peer's last word on them.
    func testAnAlertBehindProgressInTheSameDatagramIsHeld() throws {
        let pair = try startedClient()
        var hello = HandmadeHello()
        hello.cookie = [1]
        let progress = RecordDump.handshake(type: 3, [0xFE, 0xFF, 1, 9]).bytes
        pair.client.receive(progress + RecordDump.alert(level: 2, code: 71).bytes)
        XCTAssertEqual(pair.client.engine.attached?.filter.heldAlert?.code, .insufficientSecurity)
    }

    func testCloseNotifyInClearEndsAHandshakeAsAnAlertDoes() throws {
        let pair = try startedClient()
        pair.client.receive(RecordDump.alert(level: 1, code: 0).bytes)
        XCTAssertEqual(pair.client.ends, [])
        try pair.passGraceOfAlerts()
        let error = try XCTUnwrap(pair.client.failure)
        XCTAssertEqual(error.alertReceived, DtlsAlert(level: .warning, code: .closeNotify))
        XCTAssertEqual(error.code, .handshakeFailed)
    }

    func testWarningsAreNotHeld() throws {
        let pair = try startedClient()
        for code in [41, 90, 100, 112] as [UInt8] {
            pair.client.receive(RecordDump.alert(level: 1, code: code).bytes)
            XCTAssertNil(pair.client.engine.attached?.filter.heldAlert)
        }
        try pair.pump()
        try pair.passGraceOfAlerts()
        try pair.assertEchoes()
    }

    /// Which kind of error each alert becomes.
    func testEveryAlertHasItsError() throws {
        let codes: [(DtlsAlertDescription, DtlsError.Code)] = [
            (.badCertificate, .certificateRejected), (.unsupportedCertificate, .certificateRejected),
            (.certificateRevoked, .certificateRejected), (.certificateExpired, .certificateRejected),
            (.certificateUnknown, .certificateRejected), (.unknownCA, .certificateRejected),
            (.accessDenied, .certificateRejected), (.certificateRequired, .certificateRejected),
            (.unknownPSKIdentity, .authenticationFailed),
            (.handshakeFailure, .handshakeFailed), (.insufficientSecurity, .handshakeFailed),
            (.protocolVersion, .handshakeFailed), (.internalError, .handshakeFailed),
            // No key was in use yet, so these speak of something else.
            (.decryptError, .handshakeFailed), (.badRecordMac, .handshakeFailed),
            (DtlsAlertDescription(rawValue: 222), .handshakeFailed),
        ]
        for (alert, code) in codes {
            let pair = try startedClient()
            pair.client.receive(RecordDump.alert(level: 2, code: alert.rawValue).bytes)
            try pair.passGraceOfAlerts()
            let error = try XCTUnwrap(pair.client.failure)
            XCTAssertEqual(error.code, code, "\(alert)")
            XCTAssertEqual(error.alertReceived?.code, alert)
            XCTAssertTrue(error.description.contains("alert received: \(alert)"), error.description)
        }
    }
}
