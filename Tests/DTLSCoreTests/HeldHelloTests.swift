import DTLSTestKit
import DTLSTestSupport
import XCTest

@testable import DTLSCore

final class HeldHelloTests: XCTestCase {
    /// What comes while the application is asked about a hello takes no room after its answer, and is counted.
    func testNothingIsKeptOfWhatCameWhileTheHelloWaited() throws {
        var settings = DtlsServerSettings()
        settings.choosesIdentity = true
        let context = try DtlsEngineContext(server: DtlsConfiguration(), settings: settings)
        var configuration = DtlsConfiguration()
        configuration.trust = try TestIdentity.trust
        let engine = try DtlsEngine(client: DtlsEngineContext(client: configuration), serverName: "localhost")
        let pair = try DtlsEnginePair(client: engine, server: context, seed: 1)
        let now = ContinuousClock.now
        pair.start(now: now)
        for _ in 0..<10 { pair.advance(to: now) }
        let server = try XCTUnwrap(pair.server)
        let attached = try XCTUnwrap(server.attached)
        for index in 0..<10 { server.receive([UInt8](repeating: UInt8(index), count: 8_192).span.bytes, now: now) }
        XCTAssertEqual(attached.heldDatagrams.count, 8)
        server.answer(identity: try TestIdentity.server, now: now)
        XCTAssertTrue(attached.heldDatagrams.isEmpty)
        XCTAssertEqual(server.statistics.drops[.waitingForApplication], 10)
        for _ in 0..<10 { pair.advance(to: now) }
        XCTAssertTrue(pair.isOpen)
    }
}
