import DTLSCore
import DTLSTestKit
import NIOCore
import NIOEmbedded
import XCTest

@testable import NIODTLS

/// A client in its pipeline, on a loop whose time is made up.
final class ClientHandlerTests: XCTestCase {
    private let here = address("192.0.2.1", 1_000)

    /// A handshake, payloads both ways, and close_notify, in the events of both sides.
    func testFromHelloToClose() throws {
        let network = try EmbeddedNetwork()
        let client = try network.openClient(at: here)
        XCTAssertEqual(client.handler.negotiated?.cipherSuite, network.handler.negotiated(with: here)?.cipherSuite)
        let sent = client.write("over there")
        try network.settle()
        XCTAssertTrue(sent.hasSucceeded)
        XCTAssertEqual(network.recorder.payloads, ["over there"])
        XCTAssertEqual(network.recorder.sources, [here])
        XCTAssertEqual(client.recorder.payloads, ["over there"])
        XCTAssertEqual(client.recorder.sources, [EmbeddedNetwork.serverAddress])

        let closed = client.channel.close()
        try network.settle()
        XCTAssertTrue(closed.hasSucceeded)
        XCTAssertEqual(client.recorder.story, ["opened", "closed: closed by this side"])
        XCTAssertEqual(network.recorder.story, ["opened", "closed: closed by the peer"])
        XCTAssertNotNil(client.write("too late").failure())
        XCTAssertEqual(network.handler.statistics.connectionsOpen, 0)
    }

    /// What is written before waits, in its order, and no more than may wait.
    func testWritesBeforeTheHandshakeIsFinished() throws {
        let network = try EmbeddedNetwork()
        let client = try network.addClient(at: here, maximumPendingWrites: 3)
        let writes = (0..<4).map { client.write("\($0)") }
        XCTAssertEqual(writes[3].failure() as? DtlsHandlerError, .tooManyPendingWrites)
        XCTAssertFalse(writes[0].isFulfilled)
        XCTAssertTrue(try network.run { client.recorder.payloads.count == 3 })
        XCTAssertEqual(client.recorder.payloads, ["0", "1", "2"])
        XCTAssertTrue(writes[..<3].allSatisfy(\.hasSucceeded))
    }

    /// A lost flight comes again by the loop's timer, when its time has come and not before.
    func testALostFlight() throws {
        for lost in 1...3 {
            let network = try EmbeddedNetwork()
            let client = try network.addClient(at: here)
            // The hello, or the server's answer to the one or the other.
            if lost == 1 { client.toServer.losesNext = 1 }
            if lost == 2 { client.toClient.losesNext = 1 }
            if lost == 3 {
                network.server.isWritable = false
                try network.settle()
                network.server.isWritable = true
            }
            XCTAssertFalse(try network.run(for: .milliseconds(250)) { client.recorder.story == ["opened"] })
            XCTAssertEqual(client.handler.statistics.retransmissions, 0)
            XCTAssertTrue(try network.run(for: .seconds(2)) { client.recorder.story == ["opened"] }, "case \(lost)")
            XCTAssertGreaterThan(client.handler.statistics.retransmissions, 0)
        }
    }

    /// Many clients at once, over links that lose, repeat and reorder. In real time: where the last flight of a
    /// handshake is lost, OpenSSL's own timer has to help.
    func testBadLinks() throws {
        let network = try EmbeddedNetwork()
        let conditions = DtlsLinkConditions(
            loss: 0.2,
            duplication: 0.1,
            reordering: 0.2,
            delay: .milliseconds(1) ... .milliseconds(10)
        )
        for number in 1...30 {
            let client = try network.addClient(at: address("192.0.2.\(number)", number))
            client.toServer = DtlsTestLink(conditions, seed: UInt64(number))
            client.toClient = DtlsTestLink(conditions, seed: ~UInt64(number))
            _ = client.write("before")
        }
        XCTAssertTrue(try network.runInRealTime { network.clients.allSatisfy { $0.recorder.story == ["opened"] } })
        XCTAssertGreaterThan(network.clients.reduce(0) { $0 + $1.handler.statistics.retransmissions }, 0)
        for client in network.clients {
            XCTAssertEqual(client.recorder.errors.count, 0)
            client.toServer.conditions = DtlsLinkConditions()
            client.toClient.conditions = DtlsLinkConditions()
            _ = client.write("through")
        }
        let clients = network.clients
        XCTAssertTrue(try network.runInRealTime { clients.allSatisfy { $0.recorder.payloads.last == "through" } })
    }

    /// Nobody answers: the error comes when the time is over and not before, the channel closes, and whoever waits is
    /// told.
    func testNobodyAnswers() throws {
        let network = try EmbeddedNetwork()
        let client = try network.addClient(at: here)
        client.toServer.conditions.loss = 1
        let write = client.write("hello?")
        XCTAssertFalse(try network.run(for: .seconds(5)) { write.isFulfilled })
        XCTAssertTrue(client.channel.isActive)
        XCTAssertTrue(try network.run(for: .seconds(30)) { write.isFulfilled })
        XCTAssertEqual(client.recorder.codes, [.handshakeTimedOut])
        XCTAssertEqual((write.failure() as? DtlsError)?.code, .handshakeTimedOut)
        XCTAssertEqual(client.recorder.story, [])
        XCTAssertFalse(client.channel.isActive)
    }

    /// A wrong key is an error on the client's side, and an event on the server's.
    func testAWrongKey() throws {
        let network = try EmbeddedNetwork()
        let wrong = try DtlsPreSharedKey(identity: "sensor-1", key: Array("another key entirely".utf8))
        let client = try network.addClient(at: here, key: wrong)
        XCTAssertTrue(try network.run { !client.channel.isActive && !network.recorder.events.isEmpty })
        XCTAssertEqual(client.recorder.codes, [.authenticationFailed])
        XCTAssertEqual(network.recorder.story, ["failed: authenticationFailed"])
        XCTAssertEqual(network.recorder.errors.count, 0)
        XCTAssertEqual(network.handler.statistics.connectionsHandshaking, 0)
    }

    /// The key is asked for and comes later, or does not come.
    func testAnswersThatTakeTheirTime() throws {
        let network = try EmbeddedNetwork()
        let promise = network.loop.makePromise(of: DtlsPreSharedKeyAnswer.self)
        var answers = DtlsAnswers()
        answers.preSharedKey = { _, _ in promise.futureResult }
        let client = try network.addClient(at: here, key: nil, answers: answers)
        XCTAssertFalse(try network.run(for: .seconds(2)) { !client.recorder.events.isEmpty })
        promise.succeed(.identityAndKey(try XCTUnwrap(EmbeddedNetwork.key)))
        XCTAssertTrue(try network.run { client.recorder.story == ["opened"] })

        let failing = network.loop.makePromise(of: DtlsPreSharedKeyAnswer.self)
        answers.preSharedKey = { _, _ in failing.futureResult }
        let other = try network.addClient(at: address("192.0.2.2", 1), key: nil, answers: answers)
        try network.settle()
        failing.fail(ChannelError.eof)
        XCTAssertTrue(try network.run { !other.channel.isActive })
        XCTAssertEqual(other.recorder.codes, [.authenticationFailed])
    }

    /// What cannot be sent fails its promise and harms nothing else.
    func testPayloadsThatCannotBeSent() throws {
        let network = try EmbeddedNetwork()
        let client = try network.openClient(at: here)
        let most = client.handler.maximumPayloadSize
        let large = client.write(ByteBuffer(repeating: 1, count: most + 1))
        XCTAssertEqual((large.failure() as? DtlsError)?.code, .payloadTooLarge)
        XCTAssertEqual((client.write("").failure() as? DtlsError)?.code, .unsupported)
        let astray = client.channel.eventLoop.makePromise(of: Void.self)
        client.channel.writeAndFlush(AddressedEnvelope(remoteAddress: here, data: ByteBuffer()), promise: astray)
        XCTAssertEqual(astray.futureResult.failure() as? DtlsHandlerError, .unknownPeer)
        XCTAssertTrue(client.write(ByteBuffer(repeating: 7, count: most)).hasSucceeded)
        try network.settle()
        XCTAssertEqual(client.recorder.payloads.map(\.utf8.count), [most])
    }

    /// Junk, and records that somebody else sends, end nothing and pass nothing on.
    func testWhatIsNotTheServers() throws {
        let network = try EmbeddedNetwork()
        let client = try network.openClient(at: here)
        var generator = SeededGenerator(state: 7)
        for count in 0..<200 {
            let junk = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            for source in [EmbeddedNetwork.serverAddress, here] {
                try client.channel.writeInbound(AddressedEnvelope(remoteAddress: source, data: ByteBuffer(bytes: junk)))
            }
        }
        // An authentic record from elsewhere.
        _ = network.write(ByteBuffer(string: "mine"), to: here)
        let record = try XCTUnwrap(try network.server.readOutbound(as: AddressedEnvelope<ByteBuffer>.self))
        try client.channel.writeInbound(AddressedEnvelope(remoteAddress: here, data: record.data))
        XCTAssertEqual(client.recorder.payloads, [])
        _ = client.write("still here")
        try network.settle()
        XCTAssertEqual(client.recorder.payloads, ["still here"])
    }

    /// The server says goodbye.
    func testAServerThatCloses() throws {
        let network = try EmbeddedNetwork()
        let client = try network.openClient(at: here)
        let closed = network.server.close()
        try network.settle()
        XCTAssertTrue(closed.hasSucceeded)
        XCTAssertEqual(client.recorder.story, ["opened", "closed: closed by the peer"])
        XCTAssertFalse(client.channel.isActive)
        XCTAssertEqual(client.recorder.errors.count, 0)
    }

    /// A handler that is taken out of its pipeline says goodbye, too.
    func testAHandlerThatIsRemoved() throws {
        let network = try EmbeddedNetwork()
        let client = try network.openClient(at: here)
        _ = client.channel.pipeline.syncOperations.removeHandler(client.handler)
        try network.settle()
        XCTAssertEqual(network.recorder.story, ["opened", "closed: closed by the peer"])

        // With writes that wait.
        let other = try network.addClient(at: address("192.0.2.2", 1))
        let write = other.write("never")
        _ = other.channel.pipeline.syncOperations.removeHandler(other.handler)
        XCTAssertEqual((write.failure() as? DtlsError)?.code, .connectionClosed)
    }

    /// A session that one handler hands to the next.
    func testResumption() throws {
        let network = try EmbeddedNetwork()
        let first = try network.openClient(at: here)
        XCTAssertEqual(first.handler.negotiated?.isResumed, false)
        let session = try XCTUnwrap(first.handler.session)
        let second = try network.addClient(at: address("192.0.2.2", 1), session: session)
        XCTAssertTrue(try network.run { second.recorder.story == ["opened"] })
        XCTAssertEqual(second.handler.negotiated?.isResumed, true)
    }
}
