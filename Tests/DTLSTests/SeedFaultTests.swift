import DTLSCore
import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLS

/// One test for each fault that was found in dtls2 (`B1` to `B20`): what goes over the wire.
final class SeedFaultTests: XCTestCase {
    /// A whole flight was sent as one datagram, whatever the MTU.
    func testB01DatagramBoundariesAreKeptInFlights() async throws {
        try await withDeadline {
            let identity = try Self.longChain()
            let chainSize = identity.certificateChain.map(\.der.count).reduce(0, +)
            XCTAssertGreaterThan(chainSize, 4_000)
            let mutual = DtlsConfiguration.make {
                $0.identity = identity
                $0.trust = .certificates(identity.certificateChain)
            }
            let loopback = try await Loopback(
                DtlsClientContext(mutual),
                DtlsServerContext(mutual, clientCertificates: .required),
                serverName: "host-0.example.test",
                relayed: true
            )
            try await loopback.near.expectArrival(at: loopback.far)
            for direction in [Relay.Direction.toServer, .toClient] {
                let datagrams = try loopback.relay.recorded(direction)
                XCTAssertGreaterThan(datagrams.count, 4, "no flight of several datagrams went \(direction)")
                for datagram in datagrams {
                    XCTAssertLessThanOrEqual(datagram.count, 1_200)
                    XCTAssertNotNil(WireRecord.all(in: datagram), "a record is cut by the end of a datagram")
                }
            }
            await loopback.close()
        }
    }

    private static func longChain() throws -> DtlsIdentity {
        let root = try CertificateMint(commonName: "root", usage: .authority).selfSigned()
        let middle = try CertificateMint(commonName: "middle", usage: .authority).signed(by: root)
        let names = (0..<180).map { "host-\($0).example.test" }
        let leaf = try CertificateMint(commonName: "leaf", names: names).signed(by: middle)
        let chain =
            leaf.certificateChain.prefix(1) + middle.certificateChain.prefix(1) + root.certificateChain.prefix(1)
        return try DtlsIdentity(certificateChain: Array(chain), privateKey: leaf.privateKey)
    }

    /// The second record of a datagram was delivered when the next datagram came.
    func testB02EveryRecordOfADatagramIsDeliveredAtOnce() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            for (sender, receiver) in [(loopback.near, loopback.far), (loopback.far, loopback.near)] {
                let held = Lock<[UInt8]>([])
                try loopback.relay.rule { datagram in
                    held.withLock { held in
                        held += datagram.bytes
                        // Three payloads of the same length.
                        guard held.count == 3 * datagram.bytes.count else { return [] }
                        return [held]
                    }
                }
                let before = receiver.statistics.datagramsReceived
                for text in ["one", "two", "six"] { try await sender.send(text) }
                for text in ["one", "two", "six"] {
                    let payload = try await receiver.receiveText()
                    XCTAssertEqual(payload, text)
                }
                XCTAssertEqual(receiver.statistics.datagramsReceived, before + 1)
            }
            await loopback.close()
        }
    }

    /// The server answered the verified hello only when it came again, a second later.
    func testB03AHandshakeNeedsNoRetransmission() async throws {
        try await withDeadline {
            let identity = try Credentials.localhost()
            let patient = DtlsConfiguration.neverRetransmitting
            let pairs = try [
                (DtlsClientContext.preSharedKey(nil, patient), DtlsServerContext.preSharedKey(patient)),
                (.trusting(identity, patient), .presenting(identity, patient)),
            ]
            for (client, server) in pairs {
                let loopback = try await Loopback(client, server)
                XCTAssertEqual(loopback.near.statistics.retransmissions, 0)
                XCTAssertEqual(loopback.far.statistics.retransmissions, 0)
                await loopback.close()
            }
        }
    }

    /// A server's connection was made only by the client's first payload.
    func testB04TheServerMaySpeakFirst() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            try await loopback.far.expectArrival(at: loopback.near, "welcome")
            XCTAssertEqual(loopback.near.statistics.payloadsSent, 0)
            await loopback.close()
        }
    }

    /// A datagram of three bytes, `16 FE FD`, threw a range error where nobody caught it.
    func testB05ShortDatagramsAreHarmless() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let stranger = try RawSocket()
            let hello = try await WireHello.capture(.preSharedKey()).bytes
            var random = SplitMix(seed: 5)
            for length in 0...14 {
                var datagrams = [[UInt8](repeating: 0, count: length), Array(hello.prefix(length))]
                for type in UInt8(19)...26 {
                    let start = [type, 0xFE, 0xFD] + (0..<11).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                    datagrams.append(Array(start.prefix(length)))
                    // Of epoch 1, as records of an open association are.
                    datagrams.append(Array(([type, 0xFE, 0xFD, 0, 1] + start).prefix(length)))
                }
                for datagram in datagrams {
                    stranger.send(datagram, to: loopback.server.localAddress)
                    try loopback.relay.inject(datagram, .toServer)
                    try loopback.relay.inject(datagram, .toClient)
                }
                try await loopback.near.expectArrival(at: loopback.far)
                try await loopback.far.expectArrival(at: loopback.near)
            }
            XCTAssertNil(stranger.receiveNow(), "a datagram that is no hello was answered")
            let newcomer = try await DtlsClient.onLoopback()
            _ = try await newcomer.connect(to: loopback.server.localAddress, context: .preSharedKey())
            await newcomer.close()
            await loopback.close()
        }
    }

    /// The cookie callback wrote beyond its length. Here a cookie has 16 bytes, and is good for one address and one
    /// hello.
    func testB06ACookieOpensTheDoorForItsAddressAlone() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let hello = try await WireHello.capture(.preSharedKey())
            let (owner, thief) = (try RawSocket(), try RawSocket())
            owner.send(hello.bytes, to: server.localAddress)
            let reply = try await owner.receive().bytes
            let cookie = try XCTUnwrap(WireHello.cookie(in: reply))
            XCTAssertEqual(cookie.count, 16)
            XCTAssertLessThanOrEqual(reply.count, hello.bytes.count, "the answer is larger than the question")

            thief.send(hello.with(cookie: cookie).bytes, to: server.localAddress)
            let refused = try await thief.receive().bytes
            XCTAssertNotEqual(try XCTUnwrap(WireHello.cookie(in: refused)), cookie)

            owner.send(hello.with(random: 1).with(cookie: cookie).bytes, to: server.localAddress)
            let other = try await owner.receive().bytes
            XCTAssertNotNil(WireHello.cookie(in: other), "the cookie of another hello was accepted")

            owner.send(hello.with(cookie: cookie).bytes, to: server.localAddress)
            let answer = try await owner.receive().bytes
            XCTAssertEqual(WireRecord.all(in: answer)?.first?.handshakeType, 2, "no ServerHello came")
            await server.close()
        }
    }

    /// An SSL object was kept for every stranger, for ever.
    func testB07HellosOfStrangersLeaveNothing() async throws {
        try await withDeadline {
            let logs = LogCollector()
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .preSharedKey(),
                logger: logs.logger
            )
            let (address, hello) = (server.localAddress, try await WireHello.capture(.preSharedKey()))
            let flood = { @Sendable (seeds: Range<UInt64>) in
                for seed in seeds {
                    let stranger = try RawSocket()
                    stranger.send(hello.with(random: seed).bytes, to: address)
                    let reply = try XCTUnwrap(stranger.receiveBlocking(), "hello \(seed) was not answered")
                    XCTAssertNotNil(WireHello.cookie(in: reply))
                }
            }
            try await onThread { try flood(0..<200) }
            let before = residentMemory()
            try await onThread { try flood(200..<4_200) }
            if let before, let after = residentMemory() {
                XCTAssertLessThan(after - before, 512 << 10, "4,000 strangers have left something behind")
            }
            XCTAssertEqual(logs.messages, [])
            let client = try await DtlsClient.onLoopback()
            _ = try await client.connect(to: address, context: .preSharedKey())
            await client.close()
            await server.close()
        }
    }

    /// The peer's close was never told to the reader.
    func testB08ThePeersCloseEndsTheReader() async throws {
        try await withDeadline {
            for clientCloses in [true, false] {
                let loopback = try await Loopback()
                let (closing, other) =
                    clientCloses ? (loopback.near, loopback.far) : (loopback.far, loopback.near)
                try await closing.send("the last")
                let reader = Task { () -> [[UInt8]] in
                    var datagrams: [[UInt8]] = []
                    for try await datagram in other { datagrams.append(datagram) }
                    return datagrams
                }
                closing.close()
                let read = try await reader.value
                XCTAssertEqual(read, [Array("the last".utf8)])
                let reason = await other.waitUntilClosed()
                XCTAssertEqual(reason, .closedByPeer)
                XCTAssertEqual(other.state, .closed)
                await loopback.close()
            }
        }
    }

    /// An association that fails, rather than being closed, throws at its reader.
    func testB08AFailureIsThrownAtTheReader() async throws {
        try await withDeadline {
            let silent = try RawSocket()
            let endpoint = ClientEndpoint(
                socket: try .bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0)),
                queue: DtlsQueueLimits(),
                logger: nil
            )
            let association = try endpoint.association(
                with: silent.address,
                target: ConnectTarget(context: .preSharedKey(), serverName: nil),
                timeout: .milliseconds(50)
            )
            let error = await failure { try await association.nextPayload() }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            let again = await failure { try await association.nextPayload() }
            XCTAssertEqual(again, error)
            endpoint.close()
            await endpoint.loop.waitUntilEnded()
        }
    }
}
