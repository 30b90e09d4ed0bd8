import DTLSCore
import NIOCore
import NIOPosix
import XCTest

@testable import NIODTLS

/// Servers and clients on real sockets.
enum Loopback {
    private static let group = MultiThreadedEventLoopGroup.singleton

    static func preSharedKey() throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
    }

    /// An echo server. Its keys come from a task, as from a database.
    static func bindServer(closesAtPayload: Bool = false) async throws -> (channel: any Channel, address: SocketAddress)
    {
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        let context = try DtlsEngineContext(server: DtlsConfiguration(), settings: settings)
        let key = try preSharedKey()
        var answers = DtlsAnswers()
        answers.preSharedKey = { request, loop in
            loop.makeFutureWithTask {
                await Task.yield()
                guard case .identity(key.identity, _) = request else { return .unknown }
                return .key(key.key)
            }
        }
        let channel = try await DatagramBootstrap(group: group)
            .channelOption(.datagramVectorReadMessageCount, value: 8)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 8 * 2_048))
            .channelInitializer { [answers] channel in
                channel.eventLoop.makeCompletedFuture {
                    let dtls = try DtlsServerHandler(context: context, answers: answers)
                    let recorder = Recorder(echoes: true)
                    recorder.closes = closesAtPayload
                    try channel.pipeline.syncOperations.addHandlers(dtls, recorder)
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return (channel, try XCTUnwrap(channel.localAddress))
    }

    typealias ClientChannel = NIOAsyncChannel<AddressedEnvelope<ByteBuffer>, AddressedEnvelope<ByteBuffer>>

    /// A client, on a socket that is connected to the server or only bound.
    static func connect(
        to server: SocketAddress,
        isConnected: Bool,
        configuration: DtlsConfiguration = DtlsConfiguration(),
        serverName: String? = nil
    ) async throws -> ClientChannel {
        let key = configuration.trust == nil ? try preSharedKey() : nil
        let context = try DtlsEngineContext(client: configuration, usesPreSharedKeys: key != nil)
        let initialize: @Sendable (any Channel) -> EventLoopFuture<ClientChannel> = { channel in
            channel.eventLoop.makeCompletedFuture {
                let dtls = try DtlsClientHandler(
                    context: context,
                    serverAddress: server,
                    serverName: serverName,
                    preSharedKey: key
                )
                try channel.pipeline.syncOperations.addHandler(dtls)
                return try ClientChannel(wrappingChannelSynchronously: channel)
            }
        }
        let bootstrap = DatagramBootstrap(group: group)
        if isConnected { return try await bootstrap.connect(to: server, channelInitializer: initialize) }
        return try await bootstrap.bind(host: "127.0.0.1", port: 0, channelInitializer: initialize)
    }

    /// Sends datagrams one after the other, again where one was lost, and waits for their echoes.
    static func converse(_ client: ClientChannel, _ server: SocketAddress, count: Int, payload: String) async throws {
        try await client.executeThenClose { inbound, outbound in
            var answers = inbound.makeAsyncIterator()
            for number in 0..<count {
                let text = "\(payload) \(number)"
                let resender = Task {
                    while !Task.isCancelled {
                        try await outbound.write(
                            AddressedEnvelope(remoteAddress: server, data: ByteBuffer(string: text))
                        )
                        try await Task.sleep(for: .milliseconds(300))
                    }
                }
                defer { resender.cancel() }
                while true {
                    guard let answer = try await answers.next() else {
                        throw TestFailure(description: "the client's channel has ended")
                    }
                    // An echo of an earlier number may come late.
                    if String(buffer: answer.data) == text { break }
                }
            }
        }
    }
}
