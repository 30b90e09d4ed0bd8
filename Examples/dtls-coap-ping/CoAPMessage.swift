/// A CoAP message (RFC 7252 §3).
struct CoAPMessage: Equatable, Sendable {
    /// RFC 7252 §3, field T.
    enum Kind: UInt8, Sendable {
        case confirmable = 0
        case nonConfirmable = 1
        case acknowledgement = 2
        case reset = 3
    }

    /// A class of 3 bits and a detail of 5, written `2.05`.
    struct Code: Hashable, Sendable, CustomStringConvertible {
        let rawValue: UInt8

        static let empty = Code(rawValue: 0)
        static let get = Code(rawValue: 0x01)
        static let content = Code(rawValue: 0x45)

        /// Whether it is a response's (RFC 7252 §5.2): success, or an error of the client's or the server's.
        var isResponse: Bool { [2, 4, 5].contains(rawValue >> 5) }

        var description: String {
            let detail = rawValue & 31
            let number = "\(rawValue >> 5).\(detail < 10 ? "0" : "")\(detail)"
            return Self.names[rawValue].map { "\(number) \($0)" } ?? number
        }

        /// The IANA registry "CoAP Response Codes", as RFC 7252 §12.1.2 has it.
        private static let names: [UInt8: String] = [
            0x41: "Created", 0x42: "Deleted", 0x43: "Valid", 0x44: "Changed", 0x45: "Content",
            0x80: "Bad Request", 0x81: "Unauthorized", 0x82: "Bad Option", 0x83: "Forbidden", 0x84: "Not Found",
            0x85: "Method Not Allowed", 0x86: "Not Acceptable", 0x8C: "Precondition Failed",
            0x8D: "Request Entity Too Large", 0x8F: "Unsupported Content-Format", 0xA0: "Internal Server Error",
            0xA1: "Not Implemented", 0xA2: "Bad Gateway", 0xA3: "Service Unavailable", 0xA4: "Gateway Timeout",
            0xA5: "Proxying Not Supported",
        ]
    }

    /// An option: its number says what it is, and what to do when it is not known (RFC 7252 §5.4).
    struct Option: Equatable, Sendable {
        static let uriHost: UInt16 = 3
        static let uriPath: UInt16 = 11
        static let uriQuery: UInt16 = 15
        /// RFC 7959 §2.1.
        static let block2: UInt16 = 23

        var number: UInt16
        var value: [UInt8]
    }

    var kind: Kind
    var code: Code
    var messageID: UInt16
    /// 0 to 8 bytes.
    var token: [UInt8] = []
    var options: [Option] = []
    var payload: [UInt8] = []

    /// Whether a block of a larger representation came, and not the last one (RFC 7959 §2.2).
    var hasMoreBlocks: Bool {
        options.contains { $0.number == Option.block2 && ($0.value.last ?? 0) & 0x08 != 0 }
    }
}

// MARK: - Reading

extension CoAPMessage {
    /// Why bytes are no message.
    enum Fault: Error, Equatable {
        case tooShort
        case version
        case token
        /// An empty message has more than a header (RFC 7252 §4.1).
        case emptyWithContent
        case option
        /// The marker of a payload, and none behind it (RFC 7252 §3).
        case payload
    }

    /// Reads a datagram. Any bytes are either a message or a fault.
    init(_ datagram: some Sequence<UInt8>) throws(Fault) {
        var reader = Reader(datagram)
        guard let first = reader.byte(), let code = reader.byte(), let messageID = reader.uint16() else {
            throw .tooShort
        }
        guard first >> 6 == 1, let kind = Kind(rawValue: first >> 4 & 3) else { throw .version }
        // Lengths of 9 to 15 are reserved.
        guard first & 15 <= 8, let token = reader.bytes(Int(first & 15)) else { throw .token }
        self.init(kind: kind, code: Code(rawValue: code), messageID: messageID, token: token)
        guard self.code != .empty || token.isEmpty && reader.isAtEnd else { throw .emptyWithContent }
        var number = 0
        while let next = reader.byte() {
            if next == 0xFF {
                payload = reader.rest()
                guard !payload.isEmpty else { throw .payload }
                return
            }
            guard let delta = reader.extended(next >> 4), let length = reader.extended(next & 15),
                let value = reader.bytes(length)
            else { throw .option }
            number += delta
            guard let number = UInt16(exactly: number) else { throw .option }
            options.append(Option(number: number, value: value))
        }
    }

    private struct Reader {
        private var bytes: ArraySlice<UInt8>

        init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes)[...] }

        var isAtEnd: Bool { bytes.isEmpty }

        mutating func byte() -> UInt8? { bytes.popFirst() }

        mutating func uint16() -> UInt16? {
            bytes(2).map { UInt16($0[0]) << 8 | UInt16($0[1]) }
        }

        mutating func bytes(_ count: Int) -> [UInt8]? {
            guard count <= bytes.count else { return nil }
            defer { bytes.removeFirst(count) }
            return Array(bytes.prefix(count))
        }

        mutating func rest() -> [UInt8] {
            defer { bytes = [] }
            return Array(bytes)
        }

        /// A number of four bits, or the one in the next byte or two (RFC 7252 §3.1).
        mutating func extended(_ nibble: UInt8) -> Int? {
            switch nibble {
            case 13: byte().map { Int($0) + 13 }
            case 14: uint16().map { Int($0) + 269 }
            case 15: nil
            default: Int(nibble)
            }
        }
    }
}

// MARK: - Writing

extension CoAPMessage {
    /// The datagram; `nil` when the token or an option's value is longer than a message can have it.
    var encoded: [UInt8]? {
        guard token.count <= 8, options.allSatisfy({ $0.value.count <= 269 + Int(UInt16.max) }) else { return nil }
        var bytes = [1 << 6 | kind.rawValue << 4 | UInt8(token.count), code.rawValue]
        bytes += [UInt8(messageID >> 8), UInt8(truncatingIfNeeded: messageID)] + token
        var number: UInt16 = 0
        // Options of the same number stay in their order: it is that of a path.
        let sorted = options.enumerated().sorted { left, right in
            (left.element.number, left.offset) < (right.element.number, right.offset)
        }
        for (_, option) in sorted {
            let delta = Self.extended(Int(option.number - number))
            let length = Self.extended(option.value.count)
            bytes += [delta.nibble << 4 | length.nibble] + delta.more + length.more + option.value
            number = option.number
        }
        return payload.isEmpty ? bytes : bytes + [0xFF] + payload
    }

    private static func extended(_ number: Int) -> (nibble: UInt8, more: [UInt8]) {
        switch number {
        case ..<13: (UInt8(number), [])
        case ..<269: (13, [UInt8(number - 13)])
        default: (14, [UInt8((number - 269) >> 8), UInt8((number - 269) & 0xFF)])
        }
    }
}

extension CoAPMessage {
    /// The CoAP ping (RFC 7252 §4.3): an empty message that must be confirmed, which only a Reset can do.
    static func ping(messageID: UInt16) -> CoAPMessage {
        CoAPMessage(kind: .confirmable, code: .empty, messageID: messageID)
    }

    /// The Acknowledgement of this message.
    var acknowledgement: CoAPMessage { CoAPMessage(kind: .acknowledgement, code: .empty, messageID: messageID) }

    /// The Reset that rejects this message.
    var rejection: CoAPMessage { CoAPMessage(kind: .reset, code: .empty, messageID: messageID) }
}
