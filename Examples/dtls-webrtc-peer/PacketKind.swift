/// What arrives at the one port of a WebRTC peer, told apart by its first byte (RFC 7983 §7).
enum PacketKind: String, CaseIterable {
    case stun = "STUN"
    case zrtp = "ZRTP"
    case dtls = "DTLS"
    case turnChannel = "TURN channel"
    case rtp = "SRTP or SRTCP"
    case unknown = "unknown"

    init(_ packet: some Collection<UInt8>) {
        guard let first = packet.first else {
            self = .unknown
            return
        }
        self =
            switch first {
            case 0...3: .stun
            case 16...19: .zrtp
            case 20...63: .dtls
            case 64...79: .turnChannel
            case 128...191: .rtp
            default: .unknown
            }
    }
}
