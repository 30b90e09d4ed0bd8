import DTLSCore
import NIOCore
import NIODTLS
import NIOPosix

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// An echo server or its client, each with one channel. README.md shows how to run them.
@main
enum NIODtlsEcho {
    static let usage = """
        usage: nio-dtls-echo server HOST PORT IDENTITY:KEY
               nio-dtls-echo client HOST PORT IDENTITY:KEY MESSAGE...
        """

    static func main() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.count >= (arguments.first == "client" ? 5 : 4), let port = Int(arguments[3]),
            (0...65_535).contains(port),
            let colon = arguments[4].firstIndex(of: ":")
        else {
            print(usage)
            exit(64)
        }
        let secret = arguments[4][arguments[4].index(after: colon)...]
        let key = try DtlsPreSharedKey(identity: String(arguments[4][..<colon]), key: Array(secret.utf8))
        let address = try SocketAddress.makeAddressResolvingHost(arguments[2], port: port)
        switch arguments[1] {
        case "server": try await serve(at: address, key)
        case "client": try await ask(address, key, Array(arguments.dropFirst(4)))
        default:
            print(usage)
            exit(64)
        }
    }

    static func serve(at address: SocketAddress, _ key: DtlsPreSharedKey) async throws {
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        let context = try DtlsEngineContext(server: DtlsConfiguration(), settings: settings)
        let answers = DtlsAnswers(preSharedKeys: [key])
        let channel = try await DatagramBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .channelOption(.datagramVectorReadMessageCount, value: 16)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 16 * 2_048))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let dtls = try DtlsServerHandler(context: context, answers: answers)
                    try channel.pipeline.syncOperations.addHandlers(dtls, EchoHandler())
                }
            }
            .bind(to: address).get()
        print("listening on \(channel.localAddress.map { "\($0)" } ?? "?")")
        fflush(nil)
        try await channel.closeFuture.get()
    }

    static func ask(_ address: SocketAddress, _ key: DtlsPreSharedKey, _ messages: [String]) async throws {
        let context = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
        let channel = try await DatagramBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(to: address) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let dtls = try DtlsClientHandler(context: context, serverAddress: address, preSharedKey: key)
                    try channel.pipeline.syncOperations.addHandler(dtls)
                    return try NIOAsyncChannel<AddressedEnvelope<ByteBuffer>, AddressedEnvelope<ByteBuffer>>(
                        wrappingChannelSynchronously: channel
                    )
                }
            }
        // What is written before the handshake is finished waits for it. What fails ends the sequence with its error.
        try await channel.executeThenClose { inbound, outbound in
            for message in messages {
                try await outbound.write(AddressedEnvelope(remoteAddress: address, data: ByteBuffer(string: message)))
            }
            var left = messages.count
            for try await datagram in inbound {
                print(String(buffer: datagram.data))
                left -= 1
                if left == 0 { break }
            }
        }
    }
}

/// Sends back what comes.
private final class EchoHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // As UDP would: what there is no room for is lost.
        guard context.channel.isWritable else { return }
        context.write(data, promise: nil)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.flush()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event as? DtlsPeerEvent {
        case .opened(let peer, let negotiated)?: print("opened \(peer): \(negotiated.cipherSuite.name)")
        case .moved(let former, let peer)?: print("moved \(former) -> \(peer)")
        case .closed(let peer, let reason)?: print("closed \(peer): \(reason)")
        case .handshakeFailed(let peer, let error)?: print("refused \(peer): \(error)")
        case nil: context.fireUserInboundEventTriggered(event)
        }
        fflush(nil)
    }
}
