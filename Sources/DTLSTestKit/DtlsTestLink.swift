import DequeModule

/// One direction of a path: datagrams and the time go in, datagrams that have arrived come out.
///
/// It has no socket and no clock. What becomes of the n-th datagram depends on the seed and on the conditions alone, so
/// that what went wrong once goes wrong again. It is a value for one thread at a time.
public struct DtlsTestLink: Sendable {
    /// What happens to the datagrams that are sent from now on. A value that is out of its range counts as the nearest
    /// that is not.
    public var conditions: DtlsLinkConditions

    /// How many of the next datagrams are lost, whatever the conditions say; each one that is counts it down. Default:
    /// 0.
    public var losesNext = 0

    /// What became of the datagrams so far.
    public private(set) var counts = DtlsLinkCounts()

    private struct Parcel: Sendable {
        var due: ContinuousClock.Instant
        let bytes: [UInt8]
    }

    private var generator: SeededGenerator
    /// In the order of arrival.
    private var parcels = Deque<Parcel>()
    /// What waits to be overtaken.
    private var overtaken: [Parcel] = []

    /// More are not on the way at once; those beyond are lost.
    private static let maximumParcels = 65_536

    /// Makes a link.
    ///
    /// - Parameters:
    ///   - conditions: What happens to the datagrams. They are not checked. Default: nothing.
    ///   - seed: Decides, with the conditions, what becomes of each datagram.
    public init(_ conditions: DtlsLinkConditions = DtlsLinkConditions(), seed: UInt64) {
        self.conditions = conditions
        generator = SeededGenerator(seed: seed)
    }

    /// Whether nothing is on the way.
    public var isEmpty: Bool { parcels.isEmpty && overtaken.isEmpty }

    /// When the next datagram arrives; `nil` when nothing is on the way.
    public var nextArrival: ContinuousClock.Instant? {
        parcels.first?.due ?? overtaken.map(\.due).min()
    }

    /// Puts a datagram on the way, or loses it. Give the instants of all calls in their order.
    public mutating func send(_ datagram: [UInt8], now: ContinuousClock.Instant) {
        counts.sent += 1
        // Drawn for each, so that what is lost on demand changes nothing for the others.
        let isLost = generator.happens(conditions.loss)
        if losesNext > 0 {
            losesNext -= 1
            counts.lost += 1
            return
        }
        guard !isLost, parcels.count + overtaken.count < Self.maximumParcels else {
            counts.lost += 1
            return
        }
        guard datagram.count <= conditions.mtu else {
            counts.tooLarge += 1
            return
        }
        carry(datagram, now: now)
        if generator.happens(conditions.duplication) {
            counts.duplicated += 1
            carry(datagram, now: now)
        }
    }

    private mutating func carry(_ datagram: [UInt8], now: ContinuousClock.Instant) {
        var copy = datagram
        if !copy.isEmpty, generator.happens(conditions.truncation) {
            counts.truncated += 1
            copy.removeLast(Int.random(in: 1...copy.count, using: &generator))
        }
        if !copy.isEmpty, generator.happens(conditions.corruption) {
            counts.corrupted += 1
            let bit = Int.random(in: 0..<(copy.count * 8), using: &generator)
            copy[bit / 8] ^= 1 << UInt8(bit % 8)
        }
        let parcel = Parcel(due: now + delay(), bytes: copy)
        if generator.happens(conditions.reordering) {
            counts.reordered += 1
            overtaken.append(parcel)
        } else {
            insert(parcel)
            for var late in overtaken {
                late.due = Swift.max(late.due, parcel.due)
                insert(late)
            }
            overtaken = []
        }
    }

    private mutating func delay() -> Duration {
        let longest = Duration.seconds(60)
        let lower = Swift.min(Swift.max(conditions.delay.lowerBound, .zero), longest)
        let upper = Swift.min(Swift.max(conditions.delay.upperBound, .zero), longest)
        guard upper > .zero else { return .zero }
        return lower + (upper - lower) * Double.random(in: 0...1, using: &generator)
    }

    /// Behind all that arrive before it or at the same time.
    private mutating func insert(_ parcel: Parcel) {
        var index = parcels.endIndex
        while index > parcels.startIndex, parcels[index - 1].due > parcel.due { index -= 1 }
        parcels.insert(parcel, at: index)
    }

    /// Takes the next datagram that has arrived by `now`, earliest first; `nil` when none has.
    public mutating func receive(now: ContinuousClock.Instant) -> [UInt8]? {
        if parcels.isEmpty, !overtaken.isEmpty {
            // Nothing is left that could overtake them.
            for parcel in overtaken { insert(parcel) }
            overtaken = []
        }
        guard let first = parcels.first, first.due <= now else { return nil }
        parcels.removeFirst()
        counts.delivered += 1
        return first.bytes
    }
}
