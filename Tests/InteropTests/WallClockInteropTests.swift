import DTLS
import DTLSTestKit
import XCTest

#if os(Linux)
    /// Fault 21. The wall clock of a client and a server is set by an hour while their handshake waits for a flight
    /// that was lost.
    final class WallClockInteropTests: XCTestCase {
        private static let psk = ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]

        /// - Parameters:
        ///   - hole: What the way to the client does until the clock is set.
        ///   - isInHole: Whether what was to be lost is.
        private func handshake(
            acrossStepOf seconds: Int,
            hole: DtlsLinkConditions,
            isInHole: @escaping @Sendable (DtlsLinkCounts) -> Bool
        ) async throws {
            try await withDeadline { peers in
                let clock = try await SteppedClock(peers)
                let (server, address) = try await peers.startEchoServer(Self.psk, environment: clock.environment)
                let relay = try DtlsTestRelay(to: address, toClient: hole, seed: 21)
                let client = try peers.startExample(
                    "dtls-client",
                    [relay.address.host, "\(relay.address.port)", "--message", "an hour", "--replies", "1"] + Self.psk,
                    environment: clock.environment
                )
                while !isInHole(await relay.counts().toClient) {
                    guard client.output.status == nil else { throw PeerFailure(description: client.description) }
                    try await Task.sleep(for: .milliseconds(1))
                }
                try clock.step(by: seconds)
                try relay.setConditions(toServer: DtlsLinkConditions(), toClient: DtlsLinkConditions())
                let status = try await client.waitForExit(seconds: 20)
                XCTAssertEqual(status, 0, client.description)
                XCTAssertTrue(client.output.standardOutputText.contains("an hour"), client.description)
                XCTAssertEqual(server.output.standardErrorText, "")
                XCTAssertEqual(try clock.witnesses(), 2, "a program did not see the step")
                await relay.close()
            }
        }

        func testFault21TheWallClockIsSetWhileAHelloWaitsForItsAnswer() async throws {
            for seconds in [-3_600, 3_600] {
                try await handshake(acrossStepOf: seconds, hole: DtlsLinkConditions(loss: 1)) { $0.lost > 0 }
            }
        }

        func testFault21TheWallClockIsSetWhileAServersFlightIsLost() async throws {
            for seconds in [-3_600, 3_600] {
                // The answer with the cookie passes.
                try await handshake(acrossStepOf: seconds, hole: DtlsLinkConditions(mtu: 80)) { $0.tooLarge > 0 }
            }
        }
    }
#endif
