import DequeModule

/// Which handshakes a server has under way, oldest first, and whether one more may begin.
struct HandshakeAdmission {
    private let maximum: Int
    private let maximumPerPrefix: Int
    private var underWay: [ObjectIdentifier: Handshake] = [:]
    private var counts: [AddressPrefix: Int] = [:]
    // Those that have ended are in it, too, until their turn comes or there are as many of them as of the others.
    private var order: Deque<Entry> = []
    private var admitted: UInt64 = 0

    private struct Handshake {
        let association: Association
        let prefix: AddressPrefix
        let number: UInt64
    }

    /// The number tells whether it is still the same object: another one may come to be at the same place.
    private struct Entry {
        let id: ObjectIdentifier
        let number: UInt64
    }

    init(maximum: Int, maximumPerPrefix: Int) {
        self.maximum = maximum
        self.maximumPerPrefix = maximumPerPrefix
    }

    var count: Int { underWay.count }

    /// Whether a handshake from `prefix` may begin.
    func admits(_ prefix: AddressPrefix) -> Bool {
        counts[prefix, default: 0] < maximumPerPrefix
    }

    /// Takes note of a handshake that ``admits(_:)`` has let in. Returns the oldest one when it has to end for that.
    mutating func admit(_ association: Association, _ prefix: AddressPrefix) -> Association? {
        let oldest = count >= maximum ? takeOldest() : nil
        let id = ObjectIdentifier(association)
        admitted += 1
        underWay[id] = Handshake(association: association, prefix: prefix, number: admitted)
        counts[prefix, default: 0] += 1
        order.append(Entry(id: id, number: admitted))
        return oldest
    }

    /// To be called when a handshake is finished or has failed; a second time does nothing.
    mutating func handshakeEnded(_ association: Association) {
        guard let prefix = underWay.removeValue(forKey: ObjectIdentifier(association))?.prefix else { return }
        if let count = counts[prefix] { counts[prefix] = count > 1 ? count - 1 : nil }
        while let first = order.first, handshake(first) == nil { order.removeFirst() }
        if order.count > 2 * count + 64 {
            order = Deque(order.filter { handshake($0) != nil })
        }
    }

    private func handshake(_ entry: Entry) -> Handshake? {
        underWay[entry.id].flatMap { $0.number == entry.number ? $0 : nil }
    }

    private mutating func takeOldest() -> Association? {
        guard let entry = order.first(where: { handshake($0) != nil }), let oldest = handshake(entry)?.association
        else { return nil }
        handshakeEnded(oldest)
        return oldest
    }
}
