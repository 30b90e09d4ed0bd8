import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Fault 21. A wall clock that is set back is, to an engine, one that falls behind the monotonic clock, and the latter
/// is moved by hand here.
final class WallClockTests: XCTestCase {
    /// A handshake without a cookie, of which no time passes on the wall clock.
    private struct Standstill {
        let client: EnginePeer
        let server: EnginePeer
        let start = ContinuousClock.now
        var now: ContinuousClock.Instant

        init(_ options: PairOptions) throws {
            var options = options
            options.usesGate = false
            let pair = try EnginePair(options)
            client = pair.client
            server = try pair.serverPeer()
            now = start
        }

        /// Runs until both sides have opened or ended, and loses the datagrams of a direction that `loses` names by
        /// their place in it.
        mutating func run(from role: DtlsRole, loses: (Int) -> Bool) {
            var count = 0
            client.start(now: now)
            server.start(now: now)
            for _ in 0..<1_000 {
                var moved = false
                for (from, to, isLossy) in [(client, server, role == .client), (server, client, role == .server)] {
                    for datagram in from.takeOutbox() {
                        moved = true
                        if isLossy { count += 1 }
                        if !isLossy || !loses(count - 1) { to.receive(datagram, now: now) }
                    }
                }
                if moved { continue }
                // An open side has no deadline, nor has one that has ended.
                guard let next = [client, server].compactMap(\.engine.nextDeadline).min() else { return }
                now = Swift.max(now, next)
                for side in [client, server] {
                    if let deadline = side.engine.nextDeadline, deadline <= now { side.handleTimeout(now: now) }
                }
            }
        }
    }

    /// Each flight that a timer has to bring again, once and twice in a row.
    func testFault21ALostFlightIsSentAgainWhileTheWallClockStands() throws {
        for options in [try PairOptions.preSharedKey(), try .certificates()] {
            for role in [DtlsRole.client, .server] {
                for losses in 1...2 {
                    // All of a client's datagrams, and the server's first flight.
                    for first in 0..<(role == .client ? 2 : 1) {
                        var handshake = try Standstill(options)
                        handshake.run(from: role) { (first..<(first + losses)).contains($0) }
                        let (client, server) = (handshake.client, handshake.server)
                        let state = "\(role) \(first) \(losses): \(client.eventNames) \(server.eventNames)"
                        XCTAssertTrue(client.engine.isOpen && server.engine.isOpen, state)
                        let again = client.engine.statistics.retransmissions + server.engine.statistics.retransmissions
                        XCTAssertGreaterThanOrEqual(again, losses, state)
                        // After twice the wait of 400 milliseconds at first, and what follows by the policy.
                        XCTAssertLessThan(handshake.now - handshake.start, .seconds(4), state)
                        try client.send([1, 2, 3])
                        for datagram in client.takeOutbox() { server.receive(datagram) }
                        XCTAssertEqual(server.payloads, [[1, 2, 3]], state)
                    }
                }
            }
        }
    }

    /// What no copy can repair, for a peer drops copies, ends when the handshake's time is over by the monotonic clock,
    /// not before and not after.
    func testFault21AHandshakeEndsByTheMonotonicClock() throws {
        for attempts in [12, 1] {
            var options = try PairOptions.preSharedKey()
            options.client.retransmission.maximumAttempts = attempts
            var handshake = try Standstill(options)
            // The server's last flight, and nothing behind it.
            handshake.run(from: .server) { $0 > 0 }
            XCTAssertTrue(handshake.server.engine.isOpen)
            XCTAssertEqual(handshake.client.failure?.code, .handshakeTimedOut)
            let elapsed = handshake.now - handshake.start
            if attempts == 12 {
                XCTAssertEqual(elapsed, options.client.handshakeTimeout)
            } else {
                XCTAssertLessThan(elapsed, .seconds(4), "a flight has no more attempts than the policy says")
            }
        }
    }
}
