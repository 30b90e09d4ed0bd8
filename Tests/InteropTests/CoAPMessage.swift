/// As much of a CoAP message (RFC 7252 §3) as the tests need: the header, the token and, in what we make, a payload.
struct CoAPMessage: Equatable {
    enum Kind: UInt8 {
        case confirmable = 0
        case nonConfirmable = 1
        case acknowledgement = 2
        case reset = 3
    }

    static let get: UInt8 = 0x01  // 0.01
    static let content: UInt8 = 0x45  // 2.05

    var kind: Kind
    var code: UInt8
    var messageID: UInt16
    var token: [UInt8] = []
    /// Options and payload, as they stand in the datagram.
    var rest: [UInt8] = []

    init(kind: Kind, code: UInt8, messageID: UInt16, token: [UInt8] = [], rest: [UInt8] = []) {
        self.kind = kind
        self.code = code
        self.messageID = messageID
        self.token = token
        self.rest = rest
    }

    /// Parses a datagram; `nil` when it is no CoAP message.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 4, bytes[0] >> 6 == 1, let kind = Kind(rawValue: bytes[0] >> 4 & 3) else { return nil }
        let tokenEnd = 4 + Int(bytes[0] & 15)
        guard tokenEnd <= 12, tokenEnd <= bytes.count else { return nil }
        self.kind = kind
        code = bytes[1]
        messageID = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
        token = Array(bytes[4..<tokenEnd])
        rest = Array(bytes[tokenEnd...])
    }

    var bytes: [UInt8] {
        let first = 1 << 6 | kind.rawValue << 4 | UInt8(token.count)
        return [first, code, UInt8(messageID >> 8), UInt8(messageID & 0xFF)] + token + rest
    }

    /// A confirmable GET of a path.
    static func get(_ path: [String], messageID: UInt16, token: [UInt8]) -> CoAPMessage {
        var options: [UInt8] = []
        for (index, segment) in path.enumerated() {
            let bytes = Array(segment.utf8)
            precondition(bytes.count <= 12)
            // Uri-Path is option 11; the delta of its repetitions is 0.
            options += [(index == 0 ? 11 << 4 : 0) | UInt8(bytes.count)] + bytes
        }
        return CoAPMessage(kind: .confirmable, code: get, messageID: messageID, token: token, rest: options)
    }

    /// The acknowledgement that carries the content asked for.
    func reply(_ text: String) -> CoAPMessage {
        CoAPMessage(
            kind: .acknowledgement,
            code: Self.content,
            messageID: messageID,
            token: token,
            rest: [0xFF] + Array(text.utf8)
        )
    }
}
