import DTLSCore
import NIOCore
import NIOEmbedded
import XCTest

@testable import NIODTLS

/// A server among its peers, on a loop whose time is made up.
final class ServerHandlerTests: XCTestCase {
    private func place(_ number: Int) -> SocketAddress { address("192.0.2.\(number)", 1_000 + number) }

    /// Many peers, each with its own association.
    func testManyPeers() throws {
        let network = try EmbeddedNetwork()
        let clients = try (1...50).map { try network.addClient(at: place($0)) }
        XCTAssertTrue(try network.run { clients.allSatisfy { $0.recorder.story == ["opened"] } })
        for (index, client) in clients.enumerated() { _ = client.write("\(index)") }
        try network.settle()
        for (index, client) in clients.enumerated() { XCTAssertEqual(client.recorder.payloads, ["\(index)"]) }
        let statistics = network.handler.statistics
        XCTAssertEqual(statistics.connectionsOpen, 50)
        XCTAssertEqual(statistics.handshakesCompleted, 50)
        XCTAssertEqual(statistics.payloadsReceived, 50)
        XCTAssertEqual(statistics.datagramsReceived, clients.reduce(0) { $0 + $1.handler.statistics.datagramsSent })
        XCTAssertEqual(statistics.datagramsSent, clients.reduce(0) { $0 + $1.handler.statistics.datagramsReceived })
    }

    /// A context that is of no use is refused at once.
    func testAContextOfClients() throws {
        let context = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
        XCTAssertThrowsError(try DtlsServerHandler(context: context)) { error in
            XCTAssertEqual((error as? DtlsError)?.code, .invalidConfiguration)
        }
    }

    /// Hellos from forged addresses: a smaller answer, and nothing is kept.
    func testStrangers() throws {
        let network = try EmbeddedNetwork()
        let client = try network.addClient(at: place(1))
        let sent = try XCTUnwrap(try client.channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self))
        for number in 0..<2_000 {
            try network.deliver(sent.data, from: address("203.0.113.\(number % 250)", 2_000 + number))
        }
        try network.settle()
        XCTAssertEqual(network.astray.count, 2_000)
        XCTAssertTrue(network.astray.allSatisfy { $0.data.readableBytes <= sent.data.readableBytes })
        var statistics = network.handler.statistics
        XCTAssertEqual(statistics.cookiesSent, 2_000)
        XCTAssertEqual(statistics.handshakesStarted + statistics.connectionsHandshaking, 0)
        // Nothing can be sent to port 0, and NIO would close the channel for the attempt.
        try network.deliver(sent.data, from: address("203.0.113.1", 0))
        try network.settle()
        XCTAssertEqual(network.astray.count, 2_000)
        XCTAssertEqual(network.handler.statistics.drops[.unknownPeer], 1)
        // Whatever else strangers send is not answered at all.
        for type in UInt8(20)...26 {
            let header: [UInt8] = [type, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, 1, 0, 32]
            try network.deliver(ByteBuffer(bytes: header + [UInt8](repeating: type, count: 32)), from: place(9))
        }
        try network.settle()
        XCTAssertEqual(network.astray.count, 2_000)
        statistics = network.handler.statistics
        XCTAssertEqual(statistics.drops[.unknownPeer], 8)
        // One who is there gets in.
        try network.deliver(sent.data, from: client.address)
        XCTAssertTrue(try network.run { client.recorder.story == ["opened"] })
    }

    /// A channel without room for more: strangers go without an answer, and get in when there is room again.
    func testAChannelThatIsNotWritable() throws {
        let network = try EmbeddedNetwork()
        network.server.isWritable = false
        let client = try network.addClient(at: place(1))
        XCTAssertFalse(try network.run(for: .seconds(2)) { !client.recorder.events.isEmpty })
        XCTAssertGreaterThan(network.handler.statistics.drops[.sendQueueFull], 0)
        XCTAssertEqual(network.handler.statistics.cookiesSent, 0)
        network.server.isWritable = true
        XCTAssertTrue(try network.run { client.recorder.story == ["opened"] })
    }

    /// Handshakes that nobody goes on with keep no newcomer out.
    func testTheOldestHandshakeGivesWay() throws {
        var limits = DtlsServerHandlerLimits()
        limits.handshakes = 2
        let network = try EmbeddedNetwork(limits: limits)
        let promise = network.loop.makePromise(of: DtlsPreSharedKeyAnswer.self)
        var answers = DtlsAnswers()
        answers.preSharedKey = { _, _ in promise.futureResult }
        for number in 1...5 {
            try network.addClient(at: place(number), key: nil, answers: answers)
            try network.settle()
        }
        XCTAssertEqual(network.handler.statistics.connectionsHandshaking, 2)
        XCTAssertEqual(network.handler.statistics.connectionsEvicted, 3)
        let newcomer = try network.openClient(at: place(6))
        XCTAssertEqual(network.recorder.story, ["opened"])
        _ = newcomer.write("here")
        try network.settle()
        XCTAssertEqual(newcomer.recorder.payloads, ["here"])
        promise.succeed(.unknown)
    }

    /// No more peers than there may be; who waits gets in when somebody goes.
    func testTheLimitOfPeers() throws {
        var limits = DtlsServerHandlerLimits()
        limits.peers = 1
        let network = try EmbeddedNetwork(limits: limits)
        let first = try network.openClient(at: place(1))
        let second = try network.addClient(at: place(2))
        XCTAssertFalse(try network.run(for: .seconds(3)) { !second.recorder.events.isEmpty })
        XCTAssertGreaterThan(network.handler.statistics.drops[.connectionLimit], 0)
        first.channel.close(promise: nil)
        XCTAssertTrue(try network.run { second.recorder.story == ["opened"] })
        XCTAssertEqual(network.handler.statistics.connectionsOpen, 1)
    }

    /// Silence ends an association, and payloads in either direction end a silence.
    func testIdlePeers() throws {
        var limits = DtlsServerHandlerLimits()
        limits.idleTimeout = .seconds(60)
        let network = try EmbeddedNetwork(limits: limits, echoes: false)
        let client = try network.openClient(at: place(1))
        for _ in 0..<3 {
            XCTAssertFalse(try network.run(for: .seconds(40)) { !client.channel.isActive })
            _ = client.write("awake")
            XCTAssertFalse(try network.run(for: .seconds(40)) { !client.channel.isActive })
            _ = network.write(ByteBuffer(string: "you, too"), to: place(1))
        }
        XCTAssertFalse(try network.run(for: .seconds(59)) { !client.channel.isActive })
        XCTAssertTrue(try network.run(for: .seconds(2)) { !client.channel.isActive })
        XCTAssertEqual(network.recorder.story, ["opened", "closed: closed because it was idle"])
        XCTAssertEqual(client.recorder.story, ["opened", "closed: closed by the peer"])
        XCTAssertEqual(network.handler.statistics.connectionsIdledOut, 1)
    }

    /// The application closes one of them.
    func testClosingAPeer() throws {
        let network = try EmbeddedNetwork()
        let clients = [try network.openClient(at: place(1)), try network.openClient(at: place(2))]
        let closed = network.server.triggerUserOutboundEvent(DtlsClosePeer(place(1)))
        let unknown = network.server.triggerUserOutboundEvent(DtlsClosePeer(place(3)))
        try network.settle()
        XCTAssertTrue(closed.hasSucceeded)
        XCTAssertEqual(unknown.failure() as? DtlsHandlerError, .unknownPeer)
        XCTAssertEqual(clients.map(\.channel.isActive), [false, true])
        XCTAssertEqual(network.recorder.story, ["opened", "opened", "closed: closed by this side"])
        let late = network.write(ByteBuffer(string: "late"), to: place(1))
        XCTAssertEqual(late.failure() as? DtlsHandlerError, .unknownPeer)
        XCTAssertEqual(network.handler.maximumPayloadSize(to: place(1)), 0)
    }

    /// A peer that has lost its state starts anew from the same address. The old association serves until the new one
    /// is finished (RFC 6347 §4.2.8).
    func testAPeerThatStartsAnew() throws {
        let network = try EmbeddedNetwork()
        let former = try network.openClient(at: place(1))
        let promise = network.loop.makePromise(of: DtlsPreSharedKeyAnswer.self)
        var answers = DtlsAnswers()
        answers.preSharedKey = { _, _ in promise.futureResult }
        let next = try network.addClient(at: place(1), key: nil, answers: answers)
        try network.settle()
        XCTAssertEqual(network.handler.statistics.connectionsHandshaking, 1)
        // Still there.
        _ = former.write("as ever")
        let record = try XCTUnwrap(try former.channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self))
        try network.deliver(record.data, from: place(1))
        XCTAssertEqual(network.recorder.payloads, ["as ever"])
        promise.succeed(.identityAndKey(try XCTUnwrap(EmbeddedNetwork.key)))
        XCTAssertTrue(try network.run { next.recorder.story == ["opened"] })
        XCTAssertEqual(
            network.recorder.story,
            ["opened", "closed: replaced by a new association of the peer", "opened"]
        )
        _ = next.write("anew")
        try network.settle()
        XCTAssertEqual(network.recorder.payloads, ["as ever", "anew"])
        XCTAssertEqual(next.recorder.payloads.last, "anew")
        XCTAssertEqual(network.handler.statistics.connectionsOpen, 1)
        XCTAssertEqual(network.handler.statistics.connectionsHandshaking, 0)
    }

    /// A hello that comes again, to an association that is open, changes nothing.
    func testAHelloThatComesAgain() throws {
        let network = try EmbeddedNetwork()
        let client = try network.addClient(at: place(1))
        var hellos: [ByteBuffer] = []
        while let sent = try client.channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self) {
            try network.deliver(sent.data, from: place(1))
        }
        let cookie = try XCTUnwrap(try network.server.readOutbound(as: AddressedEnvelope<ByteBuffer>.self))
        try client.channel.writeInbound(
            AddressedEnvelope(remoteAddress: EmbeddedNetwork.serverAddress, data: cookie.data)
        )
        while let sent = try client.channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self) {
            hellos.append(sent.data)
            try network.deliver(sent.data, from: place(1))
        }
        let hello = try XCTUnwrap(hellos.last)
        // In the midst of its handshake it makes no other one.
        try network.deliver(hello, from: place(1))
        XCTAssertEqual(network.handler.statistics.handshakesStarted, 1)
        XCTAssertTrue(try network.run { client.recorder.story == ["opened"] })
        try network.deliver(hello, from: place(1))
        XCTAssertEqual(network.handler.statistics.drops[.repeatedHello], 1)
        XCTAssertEqual(network.handler.statistics.connectionsHandshaking, 0)
        _ = client.write("still here")
        try network.settle()
        XCTAssertEqual(client.recorder.payloads, ["still here"])
    }

    /// Wherever the peer goes, its Connection ID finds the association, and answers follow once it has shown that it is
    /// there.
    func testAPeerThatMoves() throws {
        let network = try EmbeddedNetwork()
        let client = try network.openClient(at: place(1))
        XCTAssertNotNil(client.handler.negotiated?.connectionIDs)
        client.address = place(2)
        _ = client.write("from elsewhere")
        XCTAssertTrue(try network.run { client.recorder.payloads == ["from elsewhere"] })
        XCTAssertEqual(network.recorder.story, ["opened", "moved to 1002"])
        XCTAssertEqual(network.recorder.sources, [place(2)])
        // It has shown to be there, so any number of bytes may go there, and nothing goes to where it was.
        for _ in 0..<20 {
            XCTAssertTrue(network.write(ByteBuffer(repeating: 65, count: 1_000), to: place(2)).hasSucceeded)
        }
        try network.settle()
        XCTAssertEqual(client.recorder.payloads.count, 21)
        let late = network.write(ByteBuffer(string: "late"), to: place(1))
        XCTAssertEqual(late.failure() as? DtlsHandlerError, .unknownPeer)
        XCTAssertEqual(network.astray.count, 0)
        // Another peer at the old address is another peer.
        let other = try network.openClient(at: place(1))
        _ = other.write("me, too")
        try network.settle()
        XCTAssertEqual(other.recorder.payloads, ["me, too"])
        XCTAssertEqual(network.handler.statistics.connectionsOpen, 2)
    }

    /// Somebody sends a peer's newest record from a forged address: no more than three times its bytes go there, and
    /// the association goes back to where its peer is.
    func testAForgedAddress() throws {
        let network = try EmbeddedNetwork(echoes: false)
        let client = try network.openClient(at: place(1))
        _ = client.write("on its way")
        let record = try XCTUnwrap(try client.channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self))
        try network.deliver(record.data, from: place(66))
        XCTAssertEqual(network.recorder.story, ["opened", "moved to 1066"])
        let writes = (0..<10).map { _ in network.write(ByteBuffer(repeating: 1, count: 50), to: place(66)) }
        XCTAssertEqual(writes.last?.failure() as? DtlsHandlerError, .unprovenPath)
        XCTAssertTrue(try network.run(for: .seconds(4)) { network.recorder.events.count == 3 })
        XCTAssertEqual(network.recorder.story.last, "moved to 1001")
        let diverted = network.astray.reduce(0) { $0 + $1.data.readableBytes }
        XCTAssertGreaterThan(diverted, 0)
        XCTAssertLessThanOrEqual(diverted, 3 * record.data.readableBytes)
        // A copy of it, later and from elsewhere, is no news.
        try network.deliver(record.data, from: place(67))
        _ = network.write(ByteBuffer(string: "welcome back"), to: place(1))
        try network.settle()
        XCTAssertEqual(client.recorder.payloads, ["welcome back"])
        XCTAssertEqual(network.recorder.events.count, 3)
    }

    /// Peers that come and go leave nothing.
    func testNothingIsLeft() throws {
        let network = try EmbeddedNetwork()
        weak var last: LoopAssociation?
        for _ in 0..<20 {
            let client = try network.openClient(at: place(1))
            last = network.handler.associations.first
            XCTAssertNotNil(last)
            client.channel.close(promise: nil)
            try network.settle()
        }
        XCTAssertNil(last)
        XCTAssertEqual(network.handler.associations.count, 0)
        XCTAssertEqual(network.handler.statistics.handshakesCompleted, 20)
    }
}
