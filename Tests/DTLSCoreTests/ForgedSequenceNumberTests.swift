import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Sequence numbers in clear, which nothing authenticates, decide nothing.
final class ForgedSequenceNumberTests: XCTestCase {
    /// A fragment that means nothing, in a record whose number is far ahead, as anyone can send it from the peer's
    /// address.
    private func forged(_ type: UInt8) -> [UInt8] {
        [22, 0xFE, 0xFD, 0, 0, 0, 1, 0, 0, 0, 0, 0, 13, type, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    }

    func testARecordFarAheadMovesNoWindowInAHandshake() throws {
        for make in [{ try PairOptions.preSharedKey() }, { try PairOptions.certificates() }] {
            for victim in [DtlsRole.client, .server] {
                let pair = try EnginePair(try make())
                pair.start()
                while pair.server?.sent.isEmpty != false, try pair.step() {}
                switch victim {
                // Message 0 of each side has been before.
                case .client: pair.client.receive(forged(HandshakeType.serverHello))
                case .server: try pair.serverPeer().receive(forged(HandshakeType.clientKeyExchange))
                }
                try pair.pump()
                XCTAssertTrue(pair.isOpen, "\(victim): \(pair.story)")
                try pair.assertEchoes()
            }
        }
    }

    /// The network's copies of whole flights are no harm either.
    func testEveryDatagramTwice() throws {
        for make in [{ try PairOptions.preSharedKey() }, { try PairOptions.certificates(TestIdentity.large) }] {
            var options = try make()
            options.link.duplication = 1
            let pair = try EnginePair.connected(options)
            try pair.assertEchoes()
            XCTAssertEqual(pair.client.engine.statistics.retransmissions, 0)
        }
    }
}
