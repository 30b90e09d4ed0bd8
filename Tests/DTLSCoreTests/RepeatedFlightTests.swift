import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Flights that are sent again: how many copies, when, and for whom.
final class RepeatedFlightTests: XCTestCase {
    private let policy = DtlsRetransmissionPolicy(
        initialTimeout: .milliseconds(20),
        factor: 1,
        maximumTimeout: .milliseconds(20),
        jitter: 0
    )

    /// How many datagrams each of the first retransmissions has.
    private func copies(_ policy: DtlsRetransmissionPolicy, of peer: EnginePeer) -> [Int] {
        (1...3).map { attempt in
            _ = peer.takeOutbox()
            XCTAssertTrue(peer.passTime { peer.engine.statistics.retransmissions >= attempt })
            return peer.takeOutbox().count
        }
    }

    func testASmallFlightIsDoubledFromTheSecondTimeOn() throws {
        for (doubles, expected) in [(true, [1, 2, 2]), (false, [1, 1, 1])] {
            var options = try PairOptions.preSharedKey()
            options.retransmission = policy
            options.retransmission.doublesSmallFlights = doubles
            let client = try EnginePair(options).client
            client.start()
            XCTAssertEqual(copies(policy, of: client), expected)
            XCTAssertEqual(client.engine.statistics.retransmissions, 3)
        }
    }

    func testALargeFlightIsNotDoubled() throws {
        var options = try PairOptions.certificates(TestIdentity.large)
        options.retransmission = policy
        options.usesGate = false
        let pair = try EnginePair(options)
        let server = try pair.serverPeer()
        pair.start()
        for datagram in pair.client.takeOutbox() { server.receive(datagram) }
        let first = server.takeOutbox().count
        XCTAssertGreaterThan(first, 5)
        // A byte more here or there may take one more.
        for count in copies(policy, of: server) { XCTAssertLessThanOrEqual(count, first + 1) }
    }

    /// Copies that arrive both are one to the peer.
    func testDoubledFlightsDoNoHarm() throws {
        for make in [{ try PairOptions.preSharedKey() }, { try PairOptions.certificates() }] {
            for losses in 2...3 {
                for direction in [DtlsRole.client, .server] {
                    for first in 0..<3 {
                        var options = try make()
                        options.retransmission = policy
                        let pair = try EnginePair(options)
                        var seen = 0
                        let loses: ([UInt8]) -> [UInt8]? = { datagram in
                            seen += 1
                            return seen > first && seen <= first + losses ? nil : datagram
                        }
                        if direction == .client { pair.rewriteToServer = loses } else { pair.rewriteToClient = loses }
                        pair.start()
                        XCTAssertTrue(try pair.run { pair.isOpen }, "\(pair.story)")
                        pair.rewriteToServer = { $0 }
                        pair.rewriteToClient = { $0 }
                        try pair.assertEchoes("\(direction) \(first) \(losses)")
                    }
                }
            }
        }
    }

    /// A server that has sent its flight into a hole: the client's next hello brings it again at once.
    private func serverWithALostFlight(_ options: PairOptions) throws -> (pair: EnginePair, flight: [[UInt8]]) {
        var options = options
        // The server's own timer has no part in it.
        options.server.retransmission = .init(initialTimeout: .seconds(30), maximumTimeout: .seconds(30))
        options.client.retransmission = .quick
        let pair = try EnginePair(options)
        pair.start()
        while pair.serverHasNotAnswered, try pair.step() {}
        return (pair, try pair.serverPeer().takeOutbox())
    }

    func testARepeatedHelloBringsTheServersFlightAgain() throws {
        for (usesGate, options) in [
            (true, try PairOptions.preSharedKey()), (false, try .preSharedKey()), (true, try .certificates()),
            (false, try .certificates()),
        ] {
            var options = options
            options.usesGate = usesGate
            let (pair, flight) = try serverWithALostFlight(options)
            let server = try pair.serverPeer()
            let hello = try XCTUnwrap(pair.client.sent.last)
            // The network's copy of it brings nothing.
            server.receive(hello)
            XCTAssertEqual(server.takeOutbox(), [])
            let before = pair.client.engine.statistics.retransmissions
            XCTAssertTrue(pair.client.passTime { pair.client.engine.statistics.retransmissions > before })
            let again = try XCTUnwrap(pair.client.takeOutbox().last)
            XCTAssertNotEqual(again, hello)
            server.receive(again)
            XCTAssertEqual(server.takeOutbox(), flight)
            XCTAssertEqual(server.engine.statistics.retransmissions, 1)
            // Nor does a second copy.
            server.receive(again)
            XCTAssertEqual(server.takeOutbox(), [])
            for datagram in flight { pair.client.receive(datagram) }
            try pair.pump()
            try pair.assertEchoes()
        }
    }

    /// Another client's hello, one whose number has passed, and one too many bring nothing.
    func testRepeatedHellosAreAnsweredWithinBounds() throws {
        let (pair, flight) = try serverWithALostFlight(.preSharedKey())
        let server = try pair.serverPeer()
        let hello = try XCTUnwrap(pair.client.sent.last)
        var strange = hello
        strange[9] = 1
        strange[27] ^= 1
        server.receive(strange)
        XCTAssertEqual(server.takeOutbox(), [])
        var answers = 0
        for number in 1...60 {
            var again = hello
            again[9] = UInt8(number)
            server.receive(again)
            answers += server.takeOutbox().count
            again[9] = UInt8(number - 1)
            server.receive(again)
            XCTAssertEqual(server.takeOutbox(), [])
        }
        XCTAssertEqual(answers, 12 * flight.count)

        let open = try EnginePair.connected(.preSharedKey())
        var late = try XCTUnwrap(open.client.sent.dropFirst().first)
        late[9] = 200
        try open.serverPeer().receive(late)
        XCTAssertEqual(try open.serverPeer().takeOutbox(), [], "an open association repeats nothing")
    }

    /// Attempts count for one flight. Two that are each lost as often as allowed are allowed.
    func testAttemptsCountForEachFlight() throws {
        var options = try PairOptions.preSharedKey()
        options.client.retransmission = .quick
        options.client.retransmission.maximumAttempts = 3
        options.server.retransmission = .init(initialTimeout: .seconds(30), maximumTimeout: .seconds(30))
        let pair = try EnginePair(options)
        let client = pair.client
        pair.start()
        // The hello three times in vain; then the hello with the cookie.
        var before = 0
        for _ in 0..<2 {
            _ = client.takeOutbox()
            XCTAssertTrue(client.passTime { client.engine.statistics.retransmissions == before + 3 })
            before += 3
            XCTAssertEqual(client.ends, [])
            let last = try XCTUnwrap(client.takeOutbox().last)
            pair.toServer.send(last, now: .now - .seconds(60))
            _ = try pair.step()
            _ = try pair.step()
        }
        try pair.pump()
        XCTAssertTrue(try pair.run { pair.isOpen }, pair.story)
        XCTAssertGreaterThanOrEqual(client.engine.statistics.retransmissions, 6)
    }

    /// In a resumed handshake the client has the last flight, and no timer: it answers the server's repeated one.
    func testAResumedClientsLastFlightIsAnsweredAgain() throws {
        let options = try PairOptions.certificates()
        var configuration = options.server
        configuration.retransmission = .quick
        var settings = DtlsServerSettings()
        settings.resumption = .tickets(try DtlsTicketKeys(secrets: [DtlsTicketKeys.randomSecret()]))
        let clientContext = try DtlsEngineContext(client: options.client)
        let serverContext = try DtlsEngineContext(server: configuration, settings: settings)
        func makePeers() throws -> (client: EnginePeer, server: EnginePeer) {
            (
                EnginePeer(try DtlsEngine(client: clientContext, serverName: options.serverName)),
                EnginePeer(try DtlsEngine(server: serverContext))
            )
        }
        let first = try makePeers()
        first.client.start()
        first.server.start()
        for _ in 0..<3 {
            for datagram in first.client.takeOutbox() { first.server.receive(datagram) }
            for datagram in first.server.takeOutbox() { first.client.receive(datagram) }
        }
        let session = try XCTUnwrap(first.client.engine.session)
        let (client, server) = try makePeers()
        XCTAssertTrue(try client.engine.resume(session))
        client.start()
        server.start()
        for datagram in client.takeOutbox() { server.receive(datagram) }
        for datagram in server.takeOutbox() { client.receive(datagram) }
        XCTAssertTrue(client.engine.isOpen, "\(client.eventNames)")
        XCTAssertEqual(client.finished?.isResumed, true)
        XCTAssertFalse(server.engine.isOpen)
        let lost = client.takeOutbox()
        XCTAssertFalse(lost.isEmpty)
        XCTAssertTrue(server.passTime { server.engine.statistics.retransmissions >= 1 })
        for datagram in server.takeOutbox() { client.receive(datagram) }
        let again = client.takeOutbox()
        XCTAssertEqual(again.count, lost.count, "the flight in as many datagrams")
        for datagram in again { server.receive(datagram) }
        XCTAssertTrue(server.engine.isOpen, "\(server.eventNames)")
    }

    /// Flights of many small datagrams, of which any may be lost, come back in as many.
    func testSmallMTUsThroughLoss() throws {
        var pairs: [EnginePair] = []
        for seed in 0..<40 {
            var options = seed.isMultiple(of: 2) ? try PairOptions.preSharedKey() : try .certificates()
            options.mtu = 256
            options.link = LinkConditions(loss: 0.15, duplication: 0.1, reordering: 0.2, mtu: 256)
            options.usesGate = seed % 4 < 2
            options.retransmission = .brisk
            options.retransmission.doublesSmallFlights = true
            options.seed = UInt64(seed)
            pairs.append(try EnginePair(options))
        }
        for pair in pairs { pair.start() }
        _ = try EnginePair.run(pairs) { $0.isOpen }
        for (seed, pair) in pairs.enumerated() { XCTAssertTrue(pair.isOpen, "seed \(seed): \(pair.story)") }
    }
}

extension EnginePair {
    fileprivate var serverHasNotAnswered: Bool {
        server?.sent.isEmpty != false
    }
}
