import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Handshakes that lose datagrams, or whose peers and look-ups never answer.
final class HandshakeTests: XCTestCase {
    func testAnyDatagramMayBeLostOnce() async throws {
        try await withDeadline(seconds: 60) { try await Self.checkEveryDatagram { _ in [] } }
    }

    func testAnyDatagramMayComeTwice() async throws {
        try await withDeadline(seconds: 60) { try await Self.checkEveryDatagram { [$0, $0] } }
    }

    func testAnyDatagramMayComeAfterTheNext() async throws {
        try await withDeadline(seconds: 60) {
            let held = Lock<[[UInt8]]>([])
            try await Self.checkEveryDatagram { datagram in
                held.withLock { $0 = [datagram] }
                return []
            } next: { datagram in
                held.withLock { held in
                    defer { held = [] }
                    return [datagram] + held
                }
            }
        }
    }

    /// Connects once for each datagram that a handshake needs, and changes that datagram and what follows it.
    private static func checkEveryDatagram(
        _ change: @escaping @Sendable ([UInt8]) -> [[UInt8]],
        next: @escaping @Sendable ([UInt8]) -> [[UInt8]] = { [$0] }
    ) async throws {
        let identity = try Credentials.localhost()
        var (eager, lessEager) = (DtlsConfiguration.eager, DtlsConfiguration.lessEager)
        // Certificates that fill more than one datagram, in both directions.
        for index in 0..<2 {
            let isMutual = index == 1
            eager.mtu = isMutual ? 400 : 1_200
            lessEager.mtu = eager.mtu
            lessEager.identity = isMutual ? identity : nil
            eager.trust = isMutual ? .certificates(identity.certificateChain) : nil
            let server = try await DtlsServer.onLoopback(
                DtlsServerContext(
                    DtlsConfiguration.make {
                        $0 = eager
                        $0.identity = identity
                    },
                    clientCertificates: isMutual ? .required : .none
                )
            )
            let context = try DtlsClientContext.trusting(identity, lessEager)
            for direction in [Relay.Direction.toServer, .toClient] {
                for target in 0..<(isMutual ? 7 : 4) {
                    let relay = try Relay(to: server.localAddress) { datagram in
                        guard datagram.direction == direction else { return [datagram.bytes] }
                        switch datagram.index {
                        case target: return change(datagram.bytes)
                        case target + 1: return next(datagram.bytes)
                        default: return [datagram.bytes]
                        }
                    }
                    let client = try await DtlsClient.onLoopback()
                    let near = try await client.connect(to: relay.address, context: context)
                    let far = try await server.accept()
                    relay.passEverything()
                    try await near.expectArrival(at: far)
                    try await far.expectArrival(at: near)
                    await client.close()
                }
            }
            await server.close()
        }
    }

    // MARK: Nobody answers

    func testAHalfOpenHandshakeIsGivenUpAtItsDeadline() async throws {
        try await withDeadline {
            let log = LogCollector()
            let short = DtlsConfiguration.make { $0.handshakeTimeout = .milliseconds(50) }
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .preSharedKey(short),
                logger: log.logger
            )
            let hello = try await WireHello.capture(.preSharedKey())
            let stranger = try RawSocket()
            for round in UInt64(0)..<3 {
                stranger.send(hello.with(random: round).bytes, to: server.localAddress)
                let cookie = WireHello.cookie(in: try await stranger.receive().bytes)
                let second = hello.with(random: round).with(cookie: try XCTUnwrap(cookie))
                // The second time, the same hello is no repetition any more: nothing is left of the first.
                for attempt in 1...2 {
                    stranger.send(second.bytes, to: server.localAddress)
                    let flight = try await stranger.receive().bytes
                    XCTAssertEqual(WireRecord.all(in: flight)?.first?.handshakeType, 2)
                    try await eventually("the server gives up") { log.messages.count == Int(round) * 2 + attempt }
                    XCTAssertTrue(log.messages.last?.contains("connection ended") ?? false, "\(log.messages)")
                    XCTAssertTrue(log.messages.last?.contains("\(stranger.address)") ?? false)
                    while stranger.receiveNow() != nil {}
                }
            }
            await server.close()
        }
    }

    func testALookUpThatNeverAnswersEndsAtTheDeadline() async throws {
        try await withDeadline {
            let gate = Gate()
            let store = DtlsPreSharedKeyStore { _ in
                await gate.wait()
                return DtlsSecretBytes(Credentials.key)
            }
            let short = DtlsConfiguration.make { $0.handshakeTimeout = .milliseconds(100) }
            let log = LogCollector()
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: DtlsServerContext(short, preSharedKeys: store),
                logger: log.logger
            )
            let client = try await DtlsClient.onLoopback()
            let error = await failure {
                try await client.connect(to: server.localAddress, context: .preSharedKey(nil, short))
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            try await eventually("the server gives up") {
                log.messages.contains { $0.contains("connection ended") }
            }
            // The answer comes when nobody waits for it any more; the next look-up answers at once.
            gate.open()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            try await near.expectArrival(at: server.accept())
            await client.close()
            await server.close()
        }
    }

    func testTheClientsLookUpThatNeverAnswersEndsAtTheDeadline() async throws {
        try await withDeadline {
            let gate = Gate()
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let waiting = try DtlsClientContext { _ in
                await gate.wait()
                return try? Credentials.preSharedKey()
            }
            let error = await failure {
                try await client.connect(to: server.localAddress, context: waiting, timeout: .milliseconds(100))
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            gate.open()
            let near = try await client.connect(to: server.localAddress, context: waiting)
            try await near.expectArrival(at: server.accept())
            await client.close()
            await server.close()
        }
    }
}
