/// A handshake message of which only parts have come, or one that has come before its turn.
///
/// It takes as much memory as has come of it, whatever length it claims.
struct PartialMessage {
    let type: UInt8
    let messageSequence: UInt16
    /// Of the whole message without its header, in bytes, as its fragments claim.
    let length: Int

    private struct Part {
        let offset: Int
        var bytes: [UInt8]

        var end: Int { offset + bytes.count }
    }

    /// In ascending order; they neither overlap nor touch each other.
    private var parts: [Part] = []

    /// How many fragments were added.
    private(set) var fragmentCount = 0

    /// Roughly the memory that it takes, in bytes.
    private(set) var cost = 0

    /// Roughly what a part costs beside its bytes.
    private static let costOfPart = 64

    init(_ fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) {
        type = fragment.type
        messageSequence = fragment.messageSequence
        length = fragment.messageLength
        add(fragment, in: datagram)
    }

    /// The whole message without its header; nil while something is missing.
    var body: [UInt8]? {
        guard parts.count == 1, let part = parts.first, part.bytes.count == length else { return nil }
        return part.bytes
    }

    /// Whether a fragment claims to belong to it and says nothing else of the bytes that are known.
    func agrees(with fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) -> Bool {
        guard isSame(as: fragment) else { return false }
        let range = fragment.range
        for part in parts where part.offset < range.upperBound && part.end > range.lowerBound {
            for position in Swift.max(part.offset, range.lowerBound)..<Swift.min(part.end, range.upperBound)
            where part.bytes[position - part.offset] != datagram[fragment.body.lowerBound + position - range.lowerBound]
            {
                return false
            }
        }
        return true
    }

    /// Whether a fragment claims to belong to it.
    func isSame(as fragment: HandshakeFragment) -> Bool {
        fragment.type == type && fragment.messageSequence == messageSequence && fragment.messageLength == length
    }

    /// Adds a fragment that agrees with it.
    mutating func add(_ fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) {
        fragmentCount += 1
        let range = fragment.range
        let bytes = UnsafeRawBufferPointer(rebasing: datagram[fragment.body])
        // The usual case: the next one, in order.
        if let last = parts.indices.last, parts[last].end == range.lowerBound {
            cost += bytes.count
            return parts[last].bytes.append(contentsOf: bytes)
        }
        let first = parts.firstIndex { $0.end >= range.lowerBound } ?? parts.endIndex
        let end = parts[first...].firstIndex { $0.offset > range.upperBound } ?? parts.endIndex
        guard first < end else {
            cost += bytes.count + Self.costOfPart
            return parts.insert(Part(offset: range.lowerBound, bytes: Array(bytes)), at: first)
        }
        // One part of all that overlap or touch.
        let start = Swift.min(parts[first].offset, range.lowerBound)
        var joined = [UInt8](repeating: 0, count: Swift.max(parts[end - 1].end, range.upperBound) - start)
        joined.replaceSubrange((range.lowerBound - start)..<(range.upperBound - start), with: bytes)
        for part in parts[first..<end] {
            joined.replaceSubrange((part.offset - start)..<(part.end - start), with: part.bytes)
            cost -= part.bytes.count + Self.costOfPart
        }
        cost += joined.count + Self.costOfPart
        parts.replaceSubrange(first..<end, with: CollectionOfOne(Part(offset: start, bytes: joined)))
    }
}

extension HandshakeFragment {
    /// Where the fragment's bytes stand in the message.
    var range: Range<Int> { fragmentOffset..<(fragmentOffset + body.count) }
}
