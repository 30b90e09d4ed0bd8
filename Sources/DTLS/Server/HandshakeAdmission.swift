import DequeModule

/// Which handshakes a server has under way, oldest first, and whether one more may begin.
struct HandshakeAdmission {
    private let maximum: Int
    private let maximumPerPrefix: Int
    private var prefixes: [ObjectIdentifier: AddressPrefix] = [:]
    private var counts: [AddressPrefix: Int] = [:]
    // Those that have ended are in it, too, until their turn comes or there are as many of them as of the others.
    private var order: Deque<Entry> = []

    private struct Entry {
        // Weak, so that what has ended is freed before its turn comes.
        weak var association: Association?
    }

    init(maximum: Int, maximumPerPrefix: Int) {
        self.maximum = maximum
        self.maximumPerPrefix = maximumPerPrefix
    }

    var count: Int { prefixes.count }

    /// Whether a handshake from `prefix` may begin.
    func admits(_ prefix: AddressPrefix) -> Bool {
        counts[prefix, default: 0] < maximumPerPrefix
    }

    /// Takes note of a handshake that ``admits(_:)`` has let in. Returns the oldest one when it has to end for that.
    mutating func admit(_ association: Association, _ prefix: AddressPrefix) -> Association? {
        let oldest = count >= maximum ? takeOldest() : nil
        prefixes[ObjectIdentifier(association)] = prefix
        counts[prefix, default: 0] += 1
        order.append(Entry(association: association))
        return oldest
    }

    /// To be called when a handshake is finished or has failed; a second time does nothing.
    mutating func handshakeEnded(_ association: Association) {
        guard let prefix = prefixes.removeValue(forKey: ObjectIdentifier(association)) else { return }
        if let count = counts[prefix] { counts[prefix] = count > 1 ? count - 1 : nil }
        while let first = order.first, !isUnderWay(first) { order.removeFirst() }
        if order.count > 2 * count + 64 {
            order = Deque(order.filter { isUnderWay($0) })
        }
    }

    private func isUnderWay(_ entry: Entry) -> Bool {
        entry.association.map { prefixes[ObjectIdentifier($0)] != nil } ?? false
    }

    private mutating func takeOldest() -> Association? {
        guard let oldest = order.first(where: { isUnderWay($0) })?.association else { return nil }
        handshakeEnded(oldest)
        return oldest
    }
}
