import DTLSCore
import DTLSTestKit
import Foundation
import NIOCore
import NIODTLS
import NIOEmbedded
import XCTest

/// A server and its clients on one event loop whose time is made up, joined by links that may be bad.
final class EmbeddedNetwork {
    final class Client {
        let channel: EmbeddedChannel
        let handler: DtlsClientHandler
        let recorder = Recorder()
        /// Where its datagrams come from.
        var address: SocketAddress
        var toServer = DtlsTestLink(seed: 1)
        var toClient = DtlsTestLink(seed: 2)
        /// The last datagram that it has sent.
        var lastDatagram = ByteBuffer()

        init(_ handler: DtlsClientHandler, at address: SocketAddress, on loop: EmbeddedEventLoop) {
            self.handler = handler
            self.address = address
            channel = EmbeddedChannel(handlers: [handler, recorder], loop: loop)
        }

        func write(_ text: String) -> EventLoopFuture<Void> { write(ByteBuffer(string: text)) }

        func write(_ payload: ByteBuffer) -> EventLoopFuture<Void> {
            let promise = channel.eventLoop.makePromise(of: Void.self)
            let envelope = AddressedEnvelope(remoteAddress: serverAddress, data: payload)
            channel.writeAndFlush(envelope, promise: promise)
            return promise.futureResult
        }
    }

    static let serverAddress = address("192.0.2.250", 5_684)
    static let key = presharedKey()

    let loop = EmbeddedEventLoop()
    let server: EmbeddedChannel
    let handler: DtlsServerHandler
    let recorder: Recorder
    private(set) var clients: [Client] = []
    /// What the server has sent to addresses where nobody is.
    private(set) var astray: [AddressedEnvelope<ByteBuffer>] = []
    private let clientContext: DtlsEngineContext
    private let begin = ContinuousClock.Instant.now

    init(
        limits: DtlsServerHandlerLimits = DtlsServerHandlerLimits(),
        answers: DtlsAnswers = DtlsAnswers(preSharedKeys: [key].compactMap { $0 }),
        echoes: Bool = true
    ) throws {
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        settings.resumption = .tickets(try DtlsTicketKeys())
        let context = try DtlsEngineContext(server: DtlsConfiguration(), settings: settings)
        clientContext = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
        handler = try DtlsServerHandler(context: context, answers: answers, limits: limits)
        recorder = Recorder(echoes: echoes)
        server = EmbeddedChannel(handlers: [handler, recorder], loop: loop)
        // What makes such a channel active.
        server.connect(to: Self.serverAddress, promise: nil)
    }

    /// Adds a client, which begins its handshake when something advances.
    @discardableResult
    func addClient(
        at address: SocketAddress,
        key: DtlsPreSharedKey? = key,
        session: DtlsSession? = nil,
        answers: DtlsAnswers = DtlsAnswers(),
        maximumPendingWrites: Int = 64
    ) throws -> Client {
        let handler = try DtlsClientHandler(
            context: clientContext,
            serverAddress: Self.serverAddress,
            preSharedKey: key,
            session: session,
            answers: answers,
            maximumPendingWrites: maximumPendingWrites
        )
        let client = Client(handler, at: address, on: loop)
        clients.removeAll { $0.address == address }
        clients.append(client)
        client.channel.connect(to: Self.serverAddress, promise: nil)
        return client
    }

    /// A client with its handshake done.
    func openClient(at address: SocketAddress) throws -> Client {
        let client = try addClient(at: address)
        XCTAssertTrue(try run { client.recorder.story == ["opened"] })
        return client
    }

    private var now: ContinuousClock.Instant {
        begin + .nanoseconds(Int64(clamping: loop.now.uptimeNanoseconds))
    }

    /// Lets made-up time pass, in steps of 5 ms, until the condition holds; returns whether it does.
    func run(for limit: TimeAmount = .seconds(60), until condition: () -> Bool = { false }) throws -> Bool {
        let end = loop.now + limit
        while true {
            try settle()
            if condition() { return true }
            guard loop.now < end else { return false }
            loop.advanceTime(by: .milliseconds(5))
        }
    }

    /// As ``run(for:until:)``, at the pace of the system's clock.
    func runInRealTime(until condition: () -> Bool) throws -> Bool {
        let begin = ContinuousClock.now
        let first = loop.now
        while ContinuousClock.now - begin < .seconds(29) {
            let (seconds, attoseconds) = (ContinuousClock.now - begin).components
            loop.advanceTime(to: first + .seconds(seconds) + .nanoseconds(attoseconds / 1_000_000_000))
            try settle()
            if condition() { return true }
            Thread.sleep(forTimeInterval: 0.001)
        }
        return false
    }

    /// Carries everything that has arrived by now.
    func settle() throws {
        var isQuiet = false
        while !isQuiet {
            isQuiet = true
            for client in clients {
                while let sent = try client.channel.readOutbound(as: AddressedEnvelope<ByteBuffer>.self) {
                    client.lastDatagram = sent.data
                    client.toServer.send(Array(buffer: sent.data), now: now)
                }
                while let datagram = client.toServer.receive(now: now) {
                    isQuiet = false
                    try deliver(ByteBuffer(bytes: datagram), from: client.address)
                }
            }
            while let sent = try server.readOutbound(as: AddressedEnvelope<ByteBuffer>.self) {
                guard let client = clients.first(where: { $0.address == sent.remoteAddress }) else {
                    astray.append(sent)
                    continue
                }
                client.toClient.send(Array(buffer: sent.data), now: now)
            }
            for client in clients {
                while let datagram = client.toClient.receive(now: now) {
                    isQuiet = false
                    guard client.channel.isActive else { continue }
                    try client.channel.writeInbound(
                        AddressedEnvelope(remoteAddress: Self.serverAddress, data: ByteBuffer(bytes: datagram))
                    )
                }
            }
        }
    }

    /// Brings a datagram to the server, from wherever.
    func deliver(_ datagram: ByteBuffer, from source: SocketAddress) throws {
        try server.writeInbound(AddressedEnvelope(remoteAddress: source, data: datagram))
    }

    /// Has the server write to an address.
    func write(_ payload: ByteBuffer, to address: SocketAddress) -> EventLoopFuture<Void> {
        let promise = loop.makePromise(of: Void.self)
        server.writeAndFlush(AddressedEnvelope(remoteAddress: address, data: payload), promise: promise)
        return promise.futureResult
    }
}

/// An address by its digits, which are good ones in tests.
func address(_ host: String, _ port: Int) -> SocketAddress {
    guard let address = try? SocketAddress(ipAddress: host, port: port) else {
        preconditionFailure("\(host) is no address")
    }
    return address
}

private func presharedKey() -> DtlsPreSharedKey? {
    try? DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
}

extension EventLoopFuture {
    /// The error of a future that has failed by now.
    func failure() -> (any Error)? {
        var failure: (any Error)?
        assumeIsolated().whenFailure { failure = $0 }
        return failure
    }

    /// Whether it has succeeded by now.
    var hasSucceeded: Bool {
        var hasSucceeded = false
        assumeIsolated().whenSuccess { _ in hasSucceeded = true }
        return hasSucceeded
    }

    /// Whether it has come to an end by now.
    var isFulfilled: Bool { hasSucceeded || failure() != nil }
}

/// The same numbers for the same seed (Knuth's MMIX generator, its upper half).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        var result: UInt64 = 0
        for _ in 0..<2 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            result = result << 32 | state >> 32
        }
        return result
    }
}
