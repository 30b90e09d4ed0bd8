import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Peers that go to another address, and associations that follow them (RFC 9146 §6).
final class AddressChangeTests: XCTestCase {
    private static func rebind(_ client: DtlsClient) async throws {
        let before = client.localAddress
        try await client.rebind(host: "127.0.0.1")
        XCTAssertNotEqual(client.localAddress, before)
    }

    /// A client goes to another port, again and again; nothing is lost, and both sides go on at once.
    func testAClientThatGoesToOtherPorts() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let (near, far) = (loopback.near, loopback.far)
            XCTAssertEqual(near.negotiated.connectionIDs?.peer.count, 8, "there is no Connection ID by default")
            for round in 1...5 {
                try await Self.rebind(loopback.client)
                XCTAssertEqual(near.localAddress, loopback.client.localAddress)
                for number in 0..<20 { try await near.expectArrival(at: far, "\(round) \(number)") }
                XCTAssertEqual(far.peerAddress, loopback.client.localAddress)
                for number in 0..<20 { try await far.expectArrival(at: near, "back \(round) \(number)") }
                XCTAssertEqual(loopback.server.statistics.peerMoves, round)
                XCTAssertEqual(far.statistics.peerMoves, round)
            }
            XCTAssertEqual(loopback.server.statistics.drops[.unknownPeer], 0)
            near.close()
            let reason = await far.waitUntilClosed()
            XCTAssertEqual(reason, .closedByPeer)
            try await eventually("the table is empty") { loopback.server.statistics.connectionsOpen == 0 }
            await loopback.close()
        }
    }

    /// Whoever waits for it is told where the peer is, and that it is over.
    func testAConnectionTellsWhereThePeerIs() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let far = loopback.far
            let first = far.peerAddress
            let waiting = Task { await far.peerAddress(otherThan: first) }
            let cancelled = Task { await far.peerAddress(otherThan: first) }
            cancelled.cancel()
            let none = await cancelled.value
            XCTAssertNil(none)
            try await Self.rebind(loopback.client)
            try await loopback.near.expectArrival(at: far)
            let second = await waiting.value
            XCTAssertEqual(second, loopback.client.localAddress)
            let known = await far.peerAddress(otherThan: first)
            XCTAssertEqual(known, second, "it has moved already")
            let ending = Task { await far.peerAddress(otherThan: far.peerAddress) }
            far.close()
            let end = await ending.value
            XCTAssertNil(end)
            await loopback.close()
        }
    }

    /// A connection that its handler closes by what has come from another address. A server that drains waits for
    /// nobody any more then.
    func testAHandlerThatClosesWhatHasMoved() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            loopback.far.handleDatagrams { connection, _ in connection.close() }
            let draining = Task { await loopback.server.drain(for: .seconds(3_600)) }
            let endpoint = loopback.server.endpoints[0]
            try await eventually("the drain") { endpoint.state.withLock { !$0.drainers.isEmpty } }
            try await Self.rebind(loopback.client)
            try await loopback.near.send("from elsewhere")
            let remaining = await draining.value
            XCTAssertEqual(remaining, 0)
            XCTAssertEqual(loopback.server.statistics.peerMoves, 1)
            await loopback.close()
        }
    }

    /// A client with several servers, and with connects to come, goes on as a whole.
    func testAllConnectionsOfAClient() async throws {
        try await withDeadline {
            let servers = [try await DtlsServer.onLoopback(), try await DtlsServer.onLoopback()]
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            var pairs: [(DtlsConnection, DtlsConnection)] = []
            for server in servers {
                pairs.append(
                    (try await client.connect(to: server.localAddress, context: context), try await server.accept())
                )
            }
            try await Self.rebind(client)
            for (near, far) in pairs {
                try await near.expectArrival(at: far)
                try await far.expectArrival(at: near)
            }
            let third = try await DtlsServer.onLoopback()
            let near = try await client.connect(to: third.localAddress, context: context)
            try await near.expectArrival(at: third.accept())
            await client.close()
            for server in servers + [third] { await server.close() }
        }
    }

    /// Timers go along: a client that waits for its silent server begins anew from its new port.
    func testDeadlinesOutliveTheSocket() async throws {
        try await withDeadline {
            let loopback = try await Loopback(
                .preSharedKey(nil, .make { $0.connectionIDs = .off }),
                reconnection: .whenSilent(for: .seconds(1))
            )
            try await loopback.near.expectArrival(at: loopback.far)
            try await loopback.near.send("nobody answers")
            try await Self.rebind(loopback.client)
            let second = try await loopback.server.accept()
            XCTAssertEqual(second.peerAddress, loopback.client.localAddress)
            await loopback.close()
        }
    }

    /// Without a Connection ID nobody knows who that is.
    func testWithoutAConnectionIDThereIsNoOtherAddress() async throws {
        try await withDeadline {
            let loopback = try await Loopback(.preSharedKey(nil, .make { $0.connectionIDs = .off }))
            XCTAssertNil(loopback.near.negotiated.connectionIDs)
            let first = loopback.far.peerAddress
            try await Self.rebind(loopback.client)
            try await loopback.near.send("who is that")
            try await eventually("it was dropped") { loopback.server.statistics.drops[.unknownPeer] == 1 }
            XCTAssertEqual(loopback.far.peerAddress, first)
            XCTAssertEqual(loopback.far.state, .open)
            await loopback.close()
        }
    }

    /// A connection that is closed while its peer moves is forgotten all the same.
    func testClosingWhileThePeerMoves() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            for _ in 0..<40 {
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: server.localAddress, context: context)
                let far = try await server.accept()
                let before = far.peerAddress
                try await Self.rebind(client)
                let closing = Task.detached {
                    while far.peerAddress == before { await Task.yield() }
                    far.close()
                }
                try await near.send("here")
                await closing.value
                await client.close()
            }
            let remaining = await server.drain(for: .seconds(5))
            XCTAssertEqual(remaining, 0)
        }
    }

    // MARK: Without an ID, on request

    /// A peer without an ID whose port changes is found by its keys, if the server may search.
    func testAPeerIsFoundByItsKeys() async throws {
        try await withDeadline {
            let plain = DtlsConfiguration.make { $0.connectionIDs = .off }
            let server = try await DtlsServer.onLoopback(.preSharedKey(), limits: .make { $0.movedPeerTrials = 8 })
            var pairs: [(client: DtlsClient, near: DtlsConnection, far: DtlsConnection)] = []
            for _ in 0..<6 {
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: server.localAddress, context: .preSharedKey(nil, plain))
                pairs.append((client, near, try await server.accept()))
            }
            for (index, pair) in pairs.enumerated() {
                XCTAssertNil(pair.near.negotiated.connectionIDs)
                try await Self.rebind(pair.client)
                try await pair.near.expectArrival(at: pair.far, "\(index)")
                XCTAssertEqual(pair.far.peerAddress, pair.client.localAddress)
                try await pair.far.expectArrival(at: pair.near, "back \(index)")
            }
            XCTAssertEqual(server.statistics.peerMoves, 6)
            // Neither a stranger's records nor copies move anybody.
            let stranger = try RawSocket()
            let forged = [23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 1, 0, 0, 40] + [UInt8](repeating: 7, count: 40)
            for _ in 0..<50 { stranger.send(forged, to: server.localAddress) }
            try await eventually("they are dropped") { server.statistics.drops[.unknownPeer] == 50 }
            XCTAssertEqual(server.statistics.peerMoves, 6)
            XCTAssertEqual(server.statistics.drops[.unopenedRecord], 0, "they were counted as the peers'")
            for pair in pairs {
                try await pair.near.expectArrival(at: pair.far)
                pair.near.close()
            }
            try await eventually("all have gone") { server.statistics.connectionsOpen == 0 }
            for pair in pairs { await pair.client.close() }
            await server.close()
        }
    }

    /// No more associations are tried than allowed, and those at the same host first.
    func testTrialsAreBounded() async throws {
        try await withDeadline {
            let plain = try DtlsClientContext.preSharedKey(nil, .make { $0.connectionIDs = .off })
            let server = try await DtlsServer.onLoopback(.preSharedKey(), limits: .make { $0.movedPeerTrials = 1 })
            var connections: [(client: DtlsClient, near: DtlsConnection, far: DtlsConnection)] = []
            for _ in 0..<3 {
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: server.localAddress, context: plain)
                connections.append((client, near, try await server.accept()))
            }
            var found = 0
            // The one that would be tried is the last.
            for (client, near, _) in connections.reversed() {
                let before = server.statistics
                try await Self.rebind(client)
                try await near.send("who is that")
                try await eventually("it was looked at") {
                    let after = server.statistics
                    return after.drops[.unknownPeer] > before.drops[.unknownPeer] || after.peerMoves > before.peerMoves
                }
                found += server.statistics.peerMoves - before.peerMoves
            }
            XCTAssertEqual(found, 1, "one trial among three at the same host finds one of them")
            for (client, _, _) in connections { await client.close() }
            await server.close()
            for trials in [-1, 65] {
                let error = await failure {
                    try await DtlsServer.onLoopback(limits: .make { $0.movedPeerTrials = trials })
                }
                XCTAssertEqual(error?.code, .invalidConfiguration)
            }
        }
    }

    // MARK: Strangers

    /// A copy from elsewhere, a late one, and a forgery move nobody; a record that the peer's own address has not
    /// brought yet does, for as long as no newer one comes.
    func testWhoCannotMoveAPeer() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let (near, far, relay) = (loopback.near, loopback.far, try loopback.relay)
            let stranger = try RawSocket()
            let server = loopback.server.localAddress
            for text in ["one", "two"] { try await near.expectArrival(at: far, text) }
            let address = far.peerAddress
            let sent = relay.recorded(.toServer)
            for datagram in sent { stranger.send(datagram, to: server) }
            var forged = try XCTUnwrap(sent.last)
            // A number ahead, and a tag that is none.
            forged[10] = 200
            stranger.send(forged, to: server)
            // Held back, so that it comes late and from elsewhere.
            let kept = try await relay.keep { try await near.send("late") }
            try await near.send("newest")
            let newest = try await far.receiveText()
            XCTAssertEqual(newest, "newest")
            stranger.send(kept, to: server)
            let late = try await far.receiveText()
            XCTAssertEqual(late, "late", "it is authentic all the same")
            XCTAssertEqual(far.peerAddress, address)
            XCTAssertEqual(far.statistics.peerMoves, 0)
            // On the path, somebody who is faster moves it, until the peer says more.
            stranger.send(try await relay.keep { try await near.send("taken") }, to: server)
            let taken = try await far.receiveText()
            XCTAssertEqual(taken, "taken")
            XCTAssertEqual(far.peerAddress, stranger.address)
            try await near.expectArrival(at: far, "back")
            XCTAssertEqual(far.peerAddress, address)
            try await far.expectArrival(at: near)
            await loopback.close()
        }
    }

    /// Whoever moves to an address at which somebody else is takes nothing from them.
    func testTwoAtOneAddress() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let relay = try Relay(to: server.localAddress)
            let plain = try DtlsClientContext.preSharedKey(nil, .make { $0.connectionIDs = .off })
            let first = try await DtlsClient.onLoopback()
            let firstNear = try await first.connect(to: relay.address, context: plain)
            let firstFar = try await server.accept()
            let swallowed = Lock<(isOn: Bool, datagrams: [[UInt8]])>((false, []))
            let kernel = RefusingKernel { datagram, _ in
                swallowed.withLock { state in
                    guard state.isOn else { return nil }
                    state.datagrams.append(datagram)
                    return .value(datagram.count)
                }
            }
            let mover = try await kernel.connect(to: server.localAddress)
            let moverFar = try await server.accept()
            let moverAddress = moverFar.peerAddress
            // The mover's datagram comes from where the first one is.
            swallowed.withLock { $0.isOn = true }
            try await mover.send("from the first one's address")
            swallowed.withLock { $0.isOn = false }
            relay.inject(try XCTUnwrap(swallowed.withLock { $0.datagrams.last }), .toServer)
            let text = try await moverFar.receiveText()
            XCTAssertEqual(text, "from the first one's address")
            XCTAssertEqual(moverFar.peerAddress, relay.addressAtServer)
            XCTAssertEqual(firstFar.peerAddress, relay.addressAtServer)
            try await firstNear.expectArrival(at: firstFar, "still mine")
            try await firstFar.expectArrival(at: firstNear, "still yours")
            XCTAssertEqual(server.statistics.connectionsOpen, 2)
            try await mover.expectArrival(at: moverFar)
            XCTAssertEqual(moverFar.peerAddress, moverAddress)
            for connection in [moverFar, firstFar] { connection.close() }
            try await eventually("nobody is left") { server.statistics.connectionsOpen == 0 }
            await first.close()
            await server.close()
        }
    }

    /// A client's connection that moves to where another one of the client's is takes nothing from it, and is forgotten
    /// by nothing that concerns all: neither there, nor when it has gone back.
    func testTwoOfAClientAtOneAddress() async throws {
        try await withDeadline {
            for checksPaths in [false, true] {
                let servers = [try await DtlsServer.onLoopback(), try await DtlsServer.onLoopback()]
                let client = try await DtlsClient.onLoopback()
                var ids = DtlsConnectionIDs.random(length: 4)
                ids.checksPaths = checksPaths
                let context = try DtlsClientContext.preSharedKey(nil, .make { [ids] in $0.connectionIDs = ids })
                let addresses = servers.map(\.localAddress)
                let mover = try await client.connect(to: addresses[0], context: context)
                let moverFar = try await servers[0].accept()
                let other = try await client.connect(to: addresses[1], context: context)
                let otherFar = try await servers[1].accept()

                // A record of the first server's comes from the second one's address.
                let record = try moverFar.association.ask { engine -> [UInt8] in
                    var record: [UInt8] = []
                    try? Array("from elsewhere".utf8).withUnsafeBytes { try engine.send($0) }
                    engine.drainOutboundBytes { record = Array($0) }
                    return record
                }
                record.withUnsafeBytes {
                    _ = servers[1].endpoints[0].loop.socket.send($0, to: client.localAddress)
                }
                let text = try await mover.receiveText()
                XCTAssertEqual(text, "from elsewhere")
                let moved = await mover.peerAddress(otherThan: addresses[0])
                XCTAssertEqual(moved, addresses[1])
                XCTAssertEqual(client.statistics.connectionsOpen, 2)
                try await other.expectArrival(at: otherFar, "still yours")
                try await otherFar.expectArrival(at: other, "still mine")
                if checksPaths {
                    let back = await mover.peerAddress(otherThan: addresses[1])
                    XCTAssertEqual(back, addresses[0])
                    try await mover.expectArrival(at: moverFar)
                    let again = try await client.connect(to: addresses[0], context: context)
                    XCTAssertIdentical(again.association, mover.association)
                    XCTAssertEqual(client.statistics.connectionsOpen, 2)
                }
                await client.close()
                for connection in [mover, other] { XCTAssertEqual(connection.closeReason, .closedLocally) }
                XCTAssertEqual(client.statistics.connectionsOpen, 0)
                for server in servers { await server.close() }
            }
        }
    }

    // MARK: The caller's IDs

    /// IDs that a caller makes, in which a load balancer finds its server; one that is in use is made again.
    func testIDsOfTheCaller() async throws {
        try await withDeadline {
            let made = Lock<[UInt8]>([])
            // Each comes twice.
            let ids = DtlsConnectionIDs.generated(length: 3) {
                made.withLock { made in
                    made.append(0)
                    return [0xC0, 0x01, UInt8(made.count / 2)]
                }
            }
            let server = try await DtlsServer.onLoopback(.preSharedKey(.make { $0.connectionIDs = ids }))
            var seen: Set<[UInt8]> = []
            var connections: [DtlsConnection] = []
            for _ in 0..<4 {
                let client = try await DtlsClient.onLoopback()
                connections.append(try await client.connect(to: server.localAddress, context: .preSharedKey()))
                let far = try await server.accept()
                connections.append(far)
                let own = try XCTUnwrap(far.negotiated.connectionIDs?.own)
                XCTAssertEqual(own.prefix(2), [0xC0, 0x01])
                seen.insert(own)
                try await client.rebind(host: "127.0.0.1")
                try await connections[connections.count - 2].expectArrival(at: far)
            }
            XCTAssertEqual(seen.count, 4)
            await server.close()
        }
    }

    /// An ID that is not as long as was said keeps the client out; whoever runs the server is told.
    func testAnIDOfTheCallerThatIsTooShort() async throws {
        try await withDeadline {
            let told = Lock<[DtlsError]>([])
            let ids = DtlsConnectionIDs.generated(length: 3) { [1, 2] }
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .preSharedKey(.make { $0.connectionIDs = ids }),
                handshakeFailed: { _, error in told.withLock { $0.append(error) } }
            )
            let client = try await DtlsClient.onLoopback()
            let attempt = Task { try await client.connect(to: server.localAddress, context: .preSharedKey()) }
            try await eventually("the server tells") { told.withLock { !$0.isEmpty } }
            attempt.cancel()
            _ = await attempt.result
            XCTAssertEqual(told.withLock { $0.first?.code }, .invalidConfiguration)
            await client.close()
            await server.close()
        }
    }

    /// Two connections of a client's socket with the same ID could not be told apart.
    func testAClientsIDsDiffer() async throws {
        try await withDeadline {
            let made = Lock<[UInt8]>([1, 1, 2])
            let ids = DtlsConnectionIDs.generated(length: 1) { [made.withLock { $0.removeFirst() }] }
            let context = try DtlsClientContext.preSharedKey(nil, .make { $0.connectionIDs = ids })
            let servers = [try await DtlsServer.onLoopback(), try await DtlsServer.onLoopback()]
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: servers[0].localAddress, context: context)
            let far = try await servers[0].accept()
            let error = await failure { _ = try await client.connect(to: servers[1].localAddress, context: context) }
            XCTAssertEqual(error?.code, .invalidConfiguration)
            let second = try await client.connect(to: servers[1].localAddress, context: context)
            try await servers[1].accept().expectArrival(at: second)
            try await far.expectArrival(at: near)
            await client.close()
            for server in servers { await server.close() }
        }
    }

    /// A peer moves to no address that the application does not admit.
    func testAnAddressThatIsNotAdmitted() async throws {
        try await withDeadline {
            let refused = Lock<DtlsAddress?>(nil)
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .preSharedKey(),
                admitsAddress: { address in refused.withLock { $0 != address } }
            )
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            let home = far.peerAddress
            try await Self.rebind(client)
            refused.withLock { $0 = client.localAddress }
            try await near.send("not from here")
            try await eventually("it is dropped") { server.statistics.drops[.refusedAddress] == 1 }
            XCTAssertEqual(far.peerAddress, home)
            try await Self.rebind(client)
            try await near.expectArrival(at: far, "from here")
            XCTAssertEqual(far.peerAddress, client.localAddress)
            await client.close()
            await server.close()
        }
    }

    /// When each ID that is made is in use, the newcomer has to wait, and nobody else suffers.
    func testIDsThatAreAllInUse() async throws {
        try await withDeadline {
            let ids = DtlsConnectionIDs.generated(length: 1) { [7] }
            let server = try await DtlsServer.onLoopback(.preSharedKey(.make { $0.connectionIDs = ids }))
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            let second = try await DtlsClient.onLoopback()
            let error = await failure {
                _ = try await second.connect(
                    to: server.localAddress,
                    context: .preSharedKey(),
                    timeout: .milliseconds(300)
                )
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            try await near.expectArrival(at: far)
            near.close()
            _ = await far.waitUntilClosed()
            try await eventually("the ID is free") { server.statistics.connectionsOpen == 0 }
            let third = try await second.connect(to: server.localAddress, context: .preSharedKey())
            try await third.expectArrival(at: server.accept())
            await client.close()
            await second.close()
            await server.close()
        }
    }
}
