/// Datagrams in one reused buffer, in order: written by OpenSSL or by an engine, handed out and forgotten.
///
/// Nothing is allocated for a datagram once the buffer has grown to what a flight needs.
struct DatagramQueue {
    private var bytes: [UInt8] = []
    private var ends: [Int] = []

    /// A buffer that grew beyond this is given back once it is empty.
    private static let preservedCapacity = 8_192

    private static let zeros = [UInt8](repeating: 0, count: 16_384)

    var isEmpty: Bool { ends.isEmpty }

    /// Whether it has memory, used or not.
    var hasStorage: Bool { bytes.capacity > 0 }
    var count: Int { ends.count }
    var byteCount: Int { bytes.count }

    /// Adds a datagram.
    mutating func append(_ datagram: UnsafeRawBufferPointer) {
        bytes.append(contentsOf: datagram)
        ends.append(bytes.count)
    }

    /// Adds to the last datagram.
    mutating func extendLast(_ more: UnsafeRawBufferPointer) {
        guard let last = ends.indices.last else { return append(more) }
        bytes.append(contentsOf: more)
        ends[last] = bytes.count
    }

    var lastCount: Int {
        guard let last = ends.last else { return 0 }
        return last - (ends.count > 1 ? ends[ends.count - 2] : 0)
    }

    /// Changes the bytes of the last `count` bytes that were added.
    mutating func withLastBytes(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Void) {
        bytes.withUnsafeMutableBytes { all in
            body(UnsafeMutableRawBufferPointer(rebasing: all[(all.count - Swift.min(count, all.count))...]))
        }
    }

    /// Adds a datagram of what `body` writes into `capacity` bytes, unless it returns `nil`.
    ///
    /// Returns whether a datagram was added.
    mutating func append(capacity: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int?) -> Bool {
        let start = bytes.count
        var missing = capacity
        while missing > 0 {
            // Out of an array, which is copied as a whole; element by element it took most of a handshake in debug
            // builds.
            let count = Swift.min(missing, Self.zeros.count)
            bytes.append(contentsOf: Self.zeros[..<count])
            missing -= count
        }
        let written = bytes.withUnsafeMutableBytes { all in
            body(UnsafeMutableRawBufferPointer(rebasing: all[start...]))
        }
        bytes.removeLast(capacity - Swift.max(0, Swift.min(written ?? 0, capacity)))
        guard written != nil else { return false }
        ends.append(bytes.count)
        return true
    }

    /// Takes the last datagram back.
    mutating func removeLast() -> [UInt8] {
        let count = lastCount
        guard ends.popLast() != nil else { return [] }
        defer { bytes.removeLast(count) }
        return Array(bytes[(bytes.count - count)...])
    }

    /// Hands out every datagram in order, then forgets them.
    mutating func drain(_ body: (UnsafeRawBufferPointer) -> Void) {
        visit(body)
        removeAll()
    }

    /// Hands out every datagram in order.
    func visit(_ body: (UnsafeRawBufferPointer) -> Void) {
        guard !ends.isEmpty else { return }
        bytes.withUnsafeBytes { all in
            var start = 0
            for end in ends {
                body(UnsafeRawBufferPointer(rebasing: all[start..<end]))
                start = end
            }
        }
    }

    /// Copies of all of them, in order.
    var all: [[UInt8]] {
        var datagrams: [[UInt8]] = []
        visit { datagrams.append(Array($0)) }
        return datagrams
    }

    mutating func removeAll() {
        let keeps = bytes.capacity <= Self.preservedCapacity
        bytes.removeAll(keepingCapacity: keeps)
        ends.removeAll(keepingCapacity: keeps)
    }
}
