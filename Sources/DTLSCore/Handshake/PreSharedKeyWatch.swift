/// Reads the question for a pre-shared key from the handshake's plaintext before OpenSSL does, so that the answer may
/// take its time while no callback waits, and so that identities are bytes (OpenSSL ends them at the first zero).
///
/// A server learns the identity from the ClientKeyExchange. A client learns the hint from the ServerKeyExchange, which
/// may be missing; it knows that once it has seen the whole of the server's flight.
struct PreSharedKeyWatch {
    private let role: DtlsRole
    private var clientKeyExchange = MessagePrefix()
    private var serverHello = MessagePrefix()
    private var serverKeyExchange = MessagePrefix()
    private var serverHelloSequence: UInt16?
    private var doneSequence: UInt16?
    private var serverKeyExchangeSeen = false
    /// The messages of the server's flight that were seen, as bits counted from the ServerHello.
    private var seen: UInt64 = 0

    init(role: DtlsRole) {
        self.role = role
    }

    /// Looks at a datagram before OpenSSL gets it.
    mutating func observe(_ datagram: UnsafeRawBufferPointer) {
        // A copy, because a closure cannot capture an inout self.
        var copy = self
        HandshakeFragment.forEach(in: datagram) { copy.observe($0, in: datagram) }
        self = copy
    }

    private mutating func observe(_ fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) {
        switch (role, fragment.type) {
        case (.server, HandshakeType.clientKeyExchange):
            clientKeyExchange.add(fragment, in: datagram)
        case (.client, HandshakeType.serverHello):
            serverHello.add(fragment, in: datagram)
            serverHelloSequence = fragment.messageSequence
        case (.client, HandshakeType.serverKeyExchange):
            serverKeyExchange.add(fragment, in: datagram)
            serverKeyExchangeSeen = true
        case (.client, HandshakeType.serverHelloDone):
            doneSequence = fragment.messageSequence
        default:
            break
        }
        if role == .client, fragment.messageSequence < 64 { seen |= 1 << UInt64(fragment.messageSequence) }
    }

    /// A server's question: the identity, once it is complete.
    var identity: [UInt8]? { clientKeyExchange.lengthPrefixedBytes }

    /// A client's view of the suite that the server chose, once it is known.
    var suite: UInt16? {
        // version, random, session ID, suite
        guard let idLength = serverHello.byte(at: 34), let high = serverHello.byte(at: 35 + Int(idLength)),
            let low = serverHello.byte(at: 36 + Int(idLength))
        else { return nil }
        return UInt16(high) << 8 | UInt16(low)
    }

    /// A client's question: the hint or its absence, once the server's flight is there. Nil while it is not.
    var hint: Hint? {
        guard let first = serverHelloSequence, let last = doneSequence, last > first, last < 64 else { return nil }
        let flight = (UInt64(1) << UInt64(last)) - (UInt64(1) << UInt64(first))
        guard seen & flight == flight else { return nil }
        guard serverKeyExchangeSeen else { return Hint(bytes: nil) }
        guard let bytes = serverKeyExchange.lengthPrefixedBytes else { return nil }
        return Hint(bytes: bytes.isEmpty ? nil : bytes)
    }

    struct Hint {
        let bytes: [UInt8]?
    }
}

/// The first bytes of a handshake message, out of fragments in any order.
private struct MessagePrefix {
    private static let capacity = 2 + DtlsPreSharedKey.maximumIdentityLength

    private var bytes: [UInt8?] = []

    mutating func add(_ fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) {
        let end = Swift.min(fragment.fragmentOffset + fragment.body.count, Self.capacity)
        guard fragment.fragmentOffset < end else { return }
        if bytes.count < end { bytes += [UInt8?](repeating: nil, count: end - bytes.count) }
        for offset in fragment.fragmentOffset..<end {
            bytes[offset] = datagram[fragment.body.lowerBound + offset - fragment.fragmentOffset]
        }
    }

    func byte(at offset: Int) -> UInt8? {
        bytes.indices.contains(offset) ? bytes[offset] : nil
    }

    /// The bytes behind a length of two bytes with which the message starts, once they are complete.
    var lengthPrefixedBytes: [UInt8]? {
        guard let high = byte(at: 0), let low = byte(at: 1) else { return nil }
        let length = Int(high) << 8 | Int(low)
        guard bytes.count >= 2 + length else { return nil }
        let found = bytes[2..<(2 + length)].compactMap { $0 }
        return found.count == length ? found : nil
    }
}
