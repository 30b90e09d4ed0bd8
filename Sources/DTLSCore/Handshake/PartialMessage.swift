/// A handshake message of which only parts have come, or one that has come before its turn.
///
/// It takes as much memory as has come of it, whatever length it claims, and a fragment costs what it brings.
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

    /// In ascending order; they do not overlap.
    private var parts: [Part] = []

    /// How many of its bytes have come.
    private(set) var received = 0

    /// How many fragments were added.
    private(set) var fragmentCount = 0

    /// Whether a fragment was added since this was set to `false`.
    var isFresh = true

    /// Roughly what a part costs beside its bytes.
    private static let costOfPart = 64

    init(_ fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) {
        type = fragment.type
        messageSequence = fragment.messageSequence
        length = fragment.messageLength
        add(fragment, in: datagram)
    }

    /// Roughly the memory that it takes, in bytes.
    var cost: Int { received + (parts.count + 1) * Self.costOfPart }

    var isWhole: Bool { received == length }

    /// The whole message without its header, when it is whole.
    var body: [UInt8] {
        if parts.count == 1 { return parts[0].bytes }
        return parts.flatMap(\.bytes)
    }

    /// Whether a fragment claims to belong to it.
    func isSame(as fragment: HandshakeFragment) -> Bool {
        fragment.type == type && fragment.messageSequence == messageSequence && fragment.messageLength == length
    }

    /// Whether a fragment claims to belong to it and says nothing else of the bytes that are known.
    func agrees(with fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) -> Bool {
        guard isSame(as: fragment) else { return false }
        let range = fragment.range
        for part in parts[firstPart(endingAfter: range.lowerBound)...] {
            guard part.offset < range.upperBound else { break }
            let common = Swift.max(part.offset, range.lowerBound)..<Swift.min(part.end, range.upperBound)
            let start = fragment.body.lowerBound + common.lowerBound - range.lowerBound
            let known = part.bytes[(common.lowerBound - part.offset)..<(common.upperBound - part.offset)]
            guard known.elementsEqual(datagram[start..<(start + common.count)]) else { return false }
        }
        return true
    }

    /// Adds what a fragment that agrees with it brings.
    mutating func add(_ fragment: HandshakeFragment, in datagram: UnsafeRawBufferPointer) {
        fragmentCount += 1
        isFresh = true
        let range = fragment.range
        var position = range.lowerBound
        var index = firstPart(endingAfter: position)
        while position < range.upperBound {
            let next = index < parts.endIndex ? parts[index].offset : Int.max
            if next > position {
                let end = Swift.min(next, range.upperBound)
                let start = fragment.body.lowerBound + position - range.lowerBound
                let bytes = datagram[start..<(start + end - position)]
                received += bytes.count
                // The usual case: the next one, in order.
                if index > parts.startIndex, parts[index - 1].end == position {
                    parts[index - 1].bytes.append(contentsOf: bytes)
                } else {
                    parts.insert(Part(offset: position, bytes: Array(bytes)), at: index)
                    index += 1
                }
                position = end
            }
            if index < parts.endIndex, position < range.upperBound {
                position = parts[index].end
                index += 1
            }
        }
    }

    /// The index of the first part that reaches beyond `position`.
    private func firstPart(endingAfter position: Int) -> Int {
        var low = parts.startIndex
        var high = parts.endIndex
        while low < high {
            let middle = low + (high - low) / 2
            if parts[middle].end > position { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

extension HandshakeFragment {
    /// Where the fragment's bytes stand in the message.
    var range: Range<Int> { fragmentOffset..<(fragmentOffset + body.count) }
}
