#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Records and ClientHellos as the targets read and write them, without any code of the library that is under test.
public enum Wire {
    public static let recordHeaderSize = 13
    public static let fragmentHeaderSize = 12
    /// The kind of record that carries a Connection ID.
    public static let connectionIDType: UInt8 = 25

    /// Splits a datagram into its records; what is left at the end is one more piece.
    ///
    /// - Parameter idCount: How many bytes the Connection IDs have that stand in it (RFC 9146 §4).
    public static func records(_ datagram: [UInt8], idCount: Int = 0) -> [[UInt8]] {
        var records: [[UInt8]] = []
        var offset = 0
        while offset + recordHeaderSize <= datagram.count {
            let header = recordHeaderSize + (datagram[offset] == connectionIDType ? idCount : 0)
            guard offset + header <= datagram.count else { break }
            let count = Int(datagram[offset + header - 2]) << 8 | Int(datagram[offset + header - 1])
            let end = offset + header + count
            guard end <= datagram.count else { break }
            records.append(Array(datagram[offset..<end]))
            offset = end
        }
        if offset < datagram.count { records.append(Array(datagram[offset...])) }
        return records
    }

    public static func record(
        _ type: UInt8,
        _ body: [UInt8],
        epoch: UInt16 = 0,
        sequence: UInt64 = 0,
        version: UInt16 = 0xFEFD
    ) -> [UInt8] {
        [type] + big(UInt64(version), 2) + big(UInt64(epoch), 2) + big(sequence, 6) + big(UInt64(body.count), 2) + body
    }

    /// A record with one fragment of a handshake message.
    public static func fragment(
        _ type: UInt8,
        of message: [UInt8],
        _ range: Range<Int>,
        messageSequence: Int,
        sequence: UInt64
    ) -> [UInt8] {
        let header =
            [type] + big(UInt64(message.count), 3) + big(UInt64(messageSequence), 2) + big(UInt64(range.lowerBound), 3)
            + big(UInt64(range.count), 3)
        return record(22, header + message[range], sequence: sequence, version: 0xFEFF)
    }

    /// Whether two arrays are the same: as `==`, without a loop that libFuzzer would watch.
    public static func areSame(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        return left.withUnsafeBytes { left in
            right.withUnsafeBytes { right in
                guard let left = left.baseAddress, let other = right.baseAddress else { return true }
                return memcmp(left, other, right.count) == 0
            }
        }
    }

    public static func big(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
    }

    /// What a ClientHello's first fragment says, in a datagram that begins with it.
    public struct Hello {
        /// Version, random, session ID.
        public let beforeCookie: [UInt8]
        public let cookie: [UInt8]
        /// Cipher suites and compression methods; `nil` when they are not all there.
        public let afterCookie: [UInt8]?
        public let cookieRange: Range<Int>
        public let isWhole: Bool

        public init?(_ datagram: [UInt8], at start: Int = 0) {
            let body = start + Wire.recordHeaderSize + Wire.fragmentHeaderSize
            guard start >= 0, datagram.count >= body + 35, datagram[start] == 22,
                datagram[start + Wire.recordHeaderSize] == 1
            else { return nil }
            let sessionEnd = body + 35 + Int(datagram[body + 34])
            guard sessionEnd < datagram.count else { return nil }
            let cookieEnd = sessionEnd + 1 + Int(datagram[sessionEnd])
            guard cookieEnd <= datagram.count else { return nil }
            beforeCookie = Array(datagram[body..<sessionEnd])
            cookieRange = sessionEnd + 1..<cookieEnd
            cookie = Array(datagram[cookieRange])
            let header = datagram[(start + Wire.recordHeaderSize)..<body]
            let numbers = Array(header)
            isWhole = numbers[1...3].elementsEqual(numbers[9...11])
            var end = cookieEnd
            var isComplete = false
            if end + 2 <= datagram.count {
                end += 2 + Int(datagram[end]) << 8 + Int(datagram[end + 1])
                if end < datagram.count {
                    end += 1 + Int(datagram[end])
                    isComplete = end <= datagram.count
                }
            }
            afterCookie = isComplete ? Array(datagram[cookieEnd..<end]) : nil
        }
    }

    /// The datagram's first ClientHello with another cookie, all lengths put right; `nil` when there is none.
    public static func withCookie(_ cookie: [UInt8], in datagram: [UInt8]) -> [UInt8]? {
        guard let hello = Hello(datagram), cookie.count < 256 else { return nil }
        var changed = datagram
        changed.replaceSubrange(hello.cookieRange, with: cookie)
        changed[hello.cookieRange.lowerBound - 1] = UInt8(cookie.count)
        let growth = cookie.count - hello.cookieRange.count
        func adjust(_ offset: Int, _ count: Int) {
            let value = changed[offset..<offset + count].reduce(0) { $0 << 8 | Int($1) } + growth
            guard value >= 0 else { return }
            changed.replaceSubrange(offset..<offset + count, with: big(UInt64(value), count))
        }
        adjust(11, 2)
        adjust(recordHeaderSize + 1, 3)
        adjust(recordHeaderSize + 9, 3)
        return changed
    }

    /// Whether the bytes are one HelloVerifyRequest in one record and nothing else (RFC 6347 §4.2.1); its cookie if so.
    public static func cookie(ofHelloVerifyRequest bytes: [UInt8]) -> [UInt8]? {
        let start = recordHeaderSize + fragmentHeaderSize
        guard bytes.count >= start + 3, records(bytes).count == 1, bytes[0] == 22, bytes[3...4].elementsEqual([0, 0]),
            bytes[recordHeaderSize] == 3
        else { return nil }
        let length = bytes.count - start
        let cookie = Array(bytes[(start + 3)...])
        guard Array(bytes[11...12]) == big(UInt64(length + fragmentHeaderSize), 2),
            Array(bytes[14...16]) == big(UInt64(length), 3), Array(bytes[19...21]) == [0, 0, 0],
            Array(bytes[22...24]) == big(UInt64(length), 3), Array(bytes[start...start + 1]) == [0xFE, 0xFF],
            Int(bytes[start + 2]) == cookie.count
        else { return nil }
        return cookie
    }
}
