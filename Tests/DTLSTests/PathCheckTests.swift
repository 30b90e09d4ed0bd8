import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Return routability checks: whether a peer receives what is sent to where it seems to be (RFC 9853).
final class PathCheckTests: XCTestCase {
    /// A peer that has moved shows it at once, and is sent as much as anybody then.
    func testAPeerThatHasMoved() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            try await loopback.client.rebind(host: "127.0.0.1")
            try await loopback.near.expectArrival(at: loopback.far)
            try await eventually("it has shown that it is there") {
                loopback.far.association.state.withLock { $0.path == nil }
            }
            XCTAssertEqual(loopback.far.peerAddress, loopback.client.localAddress)
            for number in 0..<50 { try await loopback.far.send([UInt8](repeating: UInt8(number), count: 1_000)) }
            for number in 0..<50 {
                let payload = try await loopback.near.receive()
                XCTAssertEqual(payload, [UInt8](repeating: UInt8(number), count: 1_000))
            }
            XCTAssertEqual(loopback.far.statistics.drops[.unprovenPath], 0)
            XCTAssertEqual(loopback.far.statistics.peerMoves, 1)
            await loopback.close()
        }
    }

    /// Has a stranger send the server a datagram of the client's, as if from a forged address.
    private static func divert(_ loopback: Loopback, to stranger: RawSocket, _ text: String) async throws {
        let relay = try loopback.relay
        stranger.send(try await relay.keep { try await loopback.near.send(text) }, to: loopback.server.localAddress)
        let arrived = try await loopback.far.receiveText()
        XCTAssertEqual(arrived, text)
        XCTAssertEqual(loopback.far.peerAddress, stranger.address)
    }

    /// Who does not answer gets no more than three times what came from there, and after a second the peer is where it
    /// was.
    func testAnAddressAtWhichNobodyAnswers() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let (near, far) = (loopback.near, loopback.far)
            try await near.expectArrival(at: far)
            let address = far.peerAddress
            let stranger = try RawSocket()
            let text = String(repeating: "t", count: 200)
            try await Self.divert(loopback, to: stranger, text)
            let diverted = try XCTUnwrap(loopback.relay.recorded(.toServer).last).count
            for _ in 0..<20 { try await far.send([UInt8](repeating: 1, count: 150)) }
            try await eventually("it is back") { far.peerAddress == address }
            XCTAssertEqual(far.statistics.peerMoves, 2)
            var received = 0
            var datagrams = 0
            while let (bytes, _) = stranger.receiveNow() {
                received += bytes.count
                datagrams += 1
            }
            XCTAssertGreaterThan(datagrams, 2, "nothing at all was sent")
            XCTAssertLessThanOrEqual(received, 3 * diverted)
            XCTAssertGreaterThan(far.statistics.drops[.unprovenPath], 15)
            // Both directions go on, and the server has the client where it was.
            try await far.expectArrival(at: near, "after")
            try await near.expectArrival(at: far, "and back")
            await loopback.close()
        }
    }

    /// A peer that speaks again from where it was is believed at once.
    func testTheWayBackNeedsNoProof() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            try await loopback.near.expectArrival(at: loopback.far)
            let address = loopback.far.peerAddress
            try await Self.divert(loopback, to: try RawSocket(), "elsewhere")
            try await loopback.near.expectArrival(at: loopback.far, "here")
            XCTAssertEqual(loopback.far.peerAddress, address)
            XCTAssertNil(loopback.far.association.state.withLock { $0.path?.former })
            for _ in 0..<20 { try await loopback.far.send([UInt8](repeating: 1, count: 1_000)) }
            for _ in 0..<20 {
                let payload = try await loopback.near.receive()
                XCTAssertEqual(payload?.count, 1_000)
            }
            XCTAssertEqual(loopback.far.statistics.drops[.unprovenPath], 0)
            await loopback.close()
        }
    }

    /// Where one side does not want checks there are none, and the association follows all the same.
    func testWithoutChecks() async throws {
        try await withDeadline {
            var ids = DtlsConnectionIDs.automatic
            ids.checksPaths = false
            let plain = DtlsConfiguration.make { [ids] in $0.connectionIDs = ids }
            for (client, server) in [(plain, DtlsConfiguration()), (DtlsConfiguration(), plain)] {
                let loopback = try await Loopback(.preSharedKey(nil, client), .preSharedKey(server))
                XCTAssertNotNil(loopback.near.negotiated.connectionIDs)
                try await loopback.client.rebind(host: "127.0.0.1")
                try await loopback.near.expectArrival(at: loopback.far)
                XCTAssertNil(loopback.far.association.state.withLock { $0.path?.former })
                XCTAssertEqual(loopback.far.peerAddress, loopback.client.localAddress)
                try await loopback.far.expectArrival(at: loopback.near)
                await loopback.close()
            }
        }
    }
}
