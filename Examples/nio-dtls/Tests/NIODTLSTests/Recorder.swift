import DTLSCore
import NIOCore
import NIODTLS

/// The end of a pipeline: keeps what comes, and sends payloads back if it is told to.
final class Recorder: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>

    private let echoes: Bool
    /// Whether it closes the channel where a payload comes in.
    var closes = false
    private(set) var payloads: [String] = []
    private(set) var sources: [SocketAddress] = []
    private(set) var events: [DtlsPeerEvent] = []
    private(set) var errors: [any Error] = []

    init(echoes: Bool = false) {
        self.echoes = echoes
    }

    /// The events in short.
    var story: [String] {
        events.map { event in
            switch event {
            case .opened: "opened"
            case .moved(_, let address): "moved to \(address.port ?? 0)"
            case .closed(_, let reason): "closed: \(reason)"
            case .handshakeFailed(_, let error): "failed: \(error.code)"
            }
        }
    }

    var codes: [DtlsError.Code] { errors.compactMap { ($0 as? DtlsError)?.code } }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        payloads.append(String(buffer: envelope.data))
        sources.append(envelope.remoteAddress)
        if closes { return context.close(promise: nil) }
        if echoes { context.writeAndFlush(wrapOutboundOut(envelope), promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? DtlsPeerEvent { events.append(event) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        errors.append(error)
    }
}
