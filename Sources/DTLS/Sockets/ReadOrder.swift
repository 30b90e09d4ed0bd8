/// In which order the messages of one read are taken: hellos first, then what goes on with handshakes, then the rest.
///
/// A handshake runs through more code than a processor's cache holds. Those of many clients at once cost less when the
/// same part of each comes right behind the other's. The price is that a datagram of an open connection waits for up
/// to 31 of handshakes that came after it. Within a group the order is that in which they came. A client's datagrams
/// seldom belong to two groups at once, as each flight waits for an answer; and UDP promises no order.
struct ReadOrder {
    enum Group: Int {
        case hello
        case handshake
        case other

        /// - Parameters:
        ///   - contentType: The first byte of a datagram.
        ///   - epoch: That of its first record.
        ///   - messageType: The type of its handshake message, if it is one in clear.
        init(_ contentType: UInt8, epoch: UInt16, _ messageType: UInt8) {
            // change_cipher_spec, handshake and client_hello (RFC 5246 §6.2.1, §7.4). A sealed Finished has no type.
            switch (contentType, epoch, messageType) {
            case (22, 0, 1): self = .hello
            case (20, _, _), (22, _, _): self = .handshake
            default: self = .other
            }
        }
    }

    /// A bit for each message that has not been taken, by its index.
    private var hellos: UInt32 = 0
    private var handshakes: UInt32 = 0
    private var others: UInt32 = 0

    init() {}

    /// As they came.
    ///
    /// - Parameter count: Up to 32, which is as many as are read at once.
    init(_ count: Int) { others = count < 32 ? 1 << UInt32(count) - 1 : .max }

    var isEmpty: Bool { hellos | handshakes | others == 0 }

    mutating func add(_ index: Int, _ group: Group) {
        let bit: UInt32 = 1 << UInt32(index)
        switch group {
        case .hello: hellos |= bit
        case .handshake: handshakes |= bit
        case .other: others |= bit
        }
    }

    /// Takes the index of the next one.
    mutating func next() -> Int? {
        if hellos != 0 { return Self.takeLowest(&hellos) }
        if handshakes != 0 { return Self.takeLowest(&handshakes) }
        return others != 0 ? Self.takeLowest(&others) : nil
    }

    private static func takeLowest(_ bits: inout UInt32) -> Int {
        defer { bits &= bits &- 1 }
        return bits.trailingZeroBitCount
    }
}
