/// What a link does to the datagrams that it carries. The default carries them all, in order and unchanged.
package struct LinkConditions: Sendable {
    /// The probability that a datagram is lost.
    package var loss = 0.0

    /// The probability that a datagram arrives twice.
    package var duplication = 0.0

    /// The probability that a datagram is overtaken by the one behind it.
    package var reordering = 0.0

    /// The probability that a datagram loses its end.
    package var truncation = 0.0

    /// The probability that a bit of a datagram is flipped.
    package var corruption = 0.0

    /// Larger datagrams are lost.
    package var mtu = 65_507

    package init(
        loss: Double = 0,
        duplication: Double = 0,
        reordering: Double = 0,
        truncation: Double = 0,
        corruption: Double = 0,
        mtu: Int = 65_507
    ) {
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self.truncation = truncation
        self.corruption = corruption
        self.mtu = mtu
    }
}

/// One direction of a path between two engines. What becomes of the n-th datagram depends on the seed alone.
package struct LossyLink: Sendable {
    package var conditions: LinkConditions

    /// How many datagrams the next calls of ``send(_:)`` lose, whatever the conditions.
    package var losesNext = 0

    /// How many datagrams were lost.
    package private(set) var lost = 0

    private var generator: SeededGenerator
    private var queue: [[UInt8]] = []
    private var overtaken: [[UInt8]] = []

    package init(_ conditions: LinkConditions = LinkConditions(), seed: UInt64) {
        self.conditions = conditions
        generator = SeededGenerator(seed: seed)
    }

    package var isEmpty: Bool { queue.isEmpty && overtaken.isEmpty }

    /// Puts a datagram on the way.
    package mutating func send(_ datagram: [UInt8]) {
        let conditions = self.conditions
        let isLost = generator.happens(conditions.loss)
        if losesNext > 0 {
            losesNext -= 1
            lost += 1
            return
        }
        guard !isLost, datagram.count <= conditions.mtu else {
            lost += 1
            return
        }
        let copies = generator.happens(conditions.duplication) ? 2 : 1
        for _ in 0..<copies {
            var copy = datagram
            if generator.happens(conditions.truncation) {
                copy.removeLast(Int.random(in: 0...copy.count, using: &generator))
            }
            if !copy.isEmpty, generator.happens(conditions.corruption) {
                let bit = Int.random(in: 0..<(copy.count * 8), using: &generator)
                copy[bit / 8] ^= 1 << UInt8(bit % 8)
            }
            if generator.happens(conditions.reordering) {
                overtaken.append(copy)
            } else {
                queue.append(copy)
                queue += overtaken
                overtaken = []
            }
        }
    }

    /// Takes the next datagram off. One that waits to be overtaken arrives when nothing else is on the way.
    package mutating func receive() -> [UInt8]? {
        if queue.isEmpty {
            queue = overtaken
            overtaken = []
        }
        return queue.isEmpty ? nil : queue.removeFirst()
    }
}
