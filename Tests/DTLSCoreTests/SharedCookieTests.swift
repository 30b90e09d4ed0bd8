import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Cookies of hosts that share their secrets.
final class SharedCookieTests: XCTestCase {
    private let hello = HandmadeHello()

    func testACookieOfOneHostIsGoodAtAnotherThatSharesItsSecret() throws {
        let secret = try DtlsCookieSecrets.randomSecret()
        var first = try DtlsHelloGate(secrets: DtlsCookieSecrets(secrets: [secret]))
        var second = try DtlsHelloGate(secrets: DtlsCookieSecrets(secrets: [secret]))
        var stranger = try DtlsHelloGate()
        let answered = hello.answering(try XCTUnwrap(first.judge(hello.datagram).reply))
        XCTAssertNotNil(second.judge(answered.datagram).hello)
        XCTAssertNil(stranger.judge(answered.datagram).hello)
    }

    func testSharedSecretsChangeWhenTheApplicationSaysSo() throws {
        let old = try DtlsCookieSecrets.randomSecret()
        let new = try DtlsCookieSecrets.randomSecret()
        let secrets = try DtlsCookieSecrets(secrets: [old])
        let start = ContinuousClock.now
        var gate = try DtlsHelloGate(secrets: secrets, now: start)
        let answered = hello.answering(try XCTUnwrap(gate.judge(hello.datagram, now: start).reply))
        // Not by time.
        XCTAssertNotNil(gate.judge(answered.datagram, now: start + .seconds(3_600)).hello)
        try secrets.replace(secrets: [new, old])
        XCTAssertNotNil(gate.judge(answered.datagram).hello, "the one before is still good")
        let fresh = hello.answering(try XCTUnwrap(gate.judge(hello.datagram).reply))
        try secrets.replace(secrets: [new])
        XCTAssertNil(gate.judge(answered.datagram).hello)
        XCTAssertNotNil(gate.judge(fresh.datagram).hello, "made with the first")
    }

    func testSecretsOutOfRangeAreRefused() throws {
        let secret = try DtlsCookieSecrets.randomSecret()
        for secrets in [[], [DtlsSecretBytes([1, 2, 3])], [DtlsSecretBytes](repeating: secret, count: 5)] {
            XCTAssertThrowsError(try DtlsCookieSecrets(secrets: secrets)) {
                XCTAssertEqual(($0 as? DtlsError)?.code, .invalidConfiguration)
            }
        }
    }

    func testWhatCarriesACookie() throws {
        var gate = try DtlsHelloGate()
        let answered = hello.answering(try XCTUnwrap(gate.judge(hello.datagram).reply))
        XCTAssertFalse(DtlsHelloGate.carriesCookie(hello.datagram.span.bytes))
        XCTAssertTrue(DtlsHelloGate.carriesCookie(answered.datagram.span.bytes))
        for count in 0..<60 {
            XCTAssertFalse(DtlsHelloGate.carriesCookie(Array(answered.datagram.prefix(count)).span.bytes))
        }
    }
}
