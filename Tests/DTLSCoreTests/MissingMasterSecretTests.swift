import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// A server that requires the extended master secret (RFC 7627) looks for it in the hello, before it computes anything.
final class MissingMasterSecretTests: XCTestCase {
    private func server(requires: Bool, suites: [UInt16] = [0x00A8]) throws -> EnginePeer {
        var configuration = DtlsConfiguration()
        configuration.requiresExtendedMasterSecret = requires
        var hello = HandmadeHello()
        hello.suites = suites
        let context = try DtlsEngineContext(server: configuration, usesPreSharedKeys: true)
        let peer = EnginePeer(try DtlsEngine(server: context, hello: hello.accepted()))
        peer.start()
        return peer
    }

    func testAHelloWithoutItIsRefusedAtOnce() throws {
        let server = try server(requires: true)
        XCTAssertEqual(server.failure?.code, .handshakeFailed)
        XCTAssertEqual(server.failure?.alertSent, DtlsAlert(level: .fatal, code: .handshakeFailure))
        XCTAssertEqual(server.ends.count, 1)
        XCTAssertNil(server.finished)
        // One datagram with one record: an alert in clear, fatal, handshake_failure. No ServerHello before it.
        XCTAssertEqual(server.sent.count, 1)
        let record = try XCTUnwrap(server.sent.first)
        XCTAssertEqual(Array(record.prefix(5)), [21, 0xFE, 0xFD, 0, 0])
        XCTAssertEqual(Array(record.suffix(4)), [0, 2, 2, 40])
        XCTAssertEqual(record.count, 15)
    }

    func testWhereItIsNotRequiredTheHelloIsAnswered() throws {
        let server = try server(requires: false)
        XCTAssertEqual(server.ends, [])
        // A handshake record: the ServerHello.
        XCTAssertEqual(server.sent.first?.first, 22)
        XCTAssertEqual(server.sent.first?[13], 2)
    }

    /// A server without a gate has not read the hello; the handshake must not be finished there either.
    func testAnEngineWithoutAGateExposesNothing() throws {
        var options = try PairOptions.preSharedKey()
        options.usesGate = false
        options.client.requiresExtendedMasterSecret = false
        let pair = try EnginePair(options)
        OpenSSLTweaks.disableExtendedMasterSecret(try XCTUnwrap(pair.client.engine.attached).records.pointer)
        try pair.connect()
        XCTAssertNil(pair.server?.finished)
        XCTAssertEqual(pair.server?.failure?.code, .handshakeFailed)
    }
}
