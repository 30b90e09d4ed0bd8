/// An input's bytes, taken from the front. Whoever takes more than there is gets zeros, or fewer bytes.
public struct FuzzInput {
    private let bytes: [UInt8]
    private var position = 0

    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    public var isAtEnd: Bool { position >= bytes.count }

    public mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }

    public mutating func uint16() -> Int {
        let high = byte()
        return Int(high) << 8 | Int(byte())
    }

    public mutating func number(below bound: Int) -> Int {
        bound <= 1 ? 0 : (bound <= 256 ? Int(byte()) : uint16()) % bound
    }

    public mutating func bytes(_ count: Int) -> [UInt8] {
        let end = Swift.min(bytes.count, position + Swift.max(0, count))
        defer { position = end }
        return Array(bytes[position..<end])
    }

    /// Bytes after their length: one byte, or two where it is 255.
    public mutating func counted() -> [UInt8] {
        let short = byte()
        return bytes(short == 255 ? uint16() : Int(short))
    }

    public mutating func rest() -> [UInt8] {
        bytes(bytes.count)
    }

    /// What ``counted()`` reads.
    public static func counted(_ bytes: [UInt8]) -> [UInt8] {
        bytes.count < 255
            ? [UInt8(bytes.count)] + bytes
            : [255, UInt8(bytes.count >> 8 & 0xFF), UInt8(bytes.count & 0xFF)] + bytes
    }
}
