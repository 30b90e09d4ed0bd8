import DTLSPrimitives
import HeapModule

/// The open connections of a server by how long they have been silent.
///
/// What is known of each may be out of date, because nobody tells when a datagram comes: it is brought up to date when
/// its turn comes, so that datagrams cost nothing here.
struct SilenceOrder {
    private struct Entry: Comparable {
        /// The number tells whether it is still the same object: another one may come to be at the same place.
        let id: ObjectIdentifier
        let number: UInt64
        let since: Moment

        static func < (left: Entry, right: Entry) -> Bool { left.since < right.since }
        static func == (left: Entry, right: Entry) -> Bool { left.since == right.since }
    }

    /// How many entries one search brings up to date. The next search goes on from there.
    private static let stepsPerSearch = 64

    private var heap = Heap<Entry>()
    private var open: [ObjectIdentifier: (association: Association, number: UInt64)] = [:]
    private var added: UInt64 = 0

    /// How many connections are open.
    var count: Int { open.count }

    mutating func add(_ association: Association, now: Moment) {
        added += 1
        open[ObjectIdentifier(association)] = (association, added)
        heap.insert(Entry(id: ObjectIdentifier(association), number: added, since: now))
    }

    /// Forgets a connection that has ended.
    mutating func remove(_ association: Association) {
        guard open.removeValue(forKey: ObjectIdentifier(association)) != nil else { return }
        if heap.count > 2 * open.count + 64 {
            heap = Heap(heap.unordered.filter { self.association($0) != nil })
        }
    }

    private func association(_ entry: Entry) -> Association? {
        open[entry.id].flatMap { $0.number == entry.number ? $0.association : nil }
    }

    /// Takes the connection that has been silent longest, if that is since `deadline` or before.
    mutating func takeStalest(silentSince deadline: Moment) -> Association? {
        guard let association = stalest(silentSince: deadline) else { return nil }
        heap.removeMin()
        open[ObjectIdentifier(association)] = nil
        return association
    }

    /// The connection that has been silent longest, if that is since `deadline` or before.
    mutating func stalest(silentSince deadline: Moment) -> Association? {
        for _ in 0..<Self.stepsPerSearch {
            guard let first = heap.min, first.since <= deadline else { return nil }
            guard let association = association(first) else {
                heap.removeMin()
                continue
            }
            let since = association.lastActivity
            guard since > first.since else { return association }
            heap.removeMin()
            heap.insert(Entry(id: first.id, number: first.number, since: since))
        }
        return nil
    }
}
