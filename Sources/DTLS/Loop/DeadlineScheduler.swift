import DTLSPrimitives
import HeapModule

/// Who has deadlines.
protocol DeadlineOwner: AnyObject, Sendable {
    /// Whether it has ended, so that no deadline is of interest any more.
    var hasEnded: Bool { get }
}

/// One timer for any number of deadlines, on one queue.
///
/// A deadline cannot be taken back: who was asked too early looks at his own state and does nothing. That keeps the
/// heap without look-ups, and an entry costs nothing until it is due.
struct DeadlineScheduler<Owner: DeadlineOwner> {
    private struct Entry: Comparable {
        let deadline: Moment
        // Strong, because whatever is ever weakly referenced is slower to retain from then on, and these are retained
        // for each datagram. What has ended is thrown out when there may be as much of it as of the others.
        let owner: Owner

        static func < (left: Entry, right: Entry) -> Bool { left.deadline < right.deadline }
        static func == (left: Entry, right: Entry) -> Bool { left.deadline == right.deadline }
    }

    private var heap = Heap<Entry>()
    private var armed: Moment?
    /// How many entries there may be before those of ended owners are looked for.
    private var largestCount = Self.leastCount
    private static var leastCount: Int { 64 }

    /// Forgets owners that have ended, when there may be as many of them as of others. Returns them, to be released
    /// when nobody is at this value.
    mutating func removeEnded() -> [Owner] {
        guard heap.count >= largestCount else { return [] }
        let entries = heap.unordered
        heap = Heap(entries.filter { !$0.owner.hasEnded })
        largestCount = max(Self.leastCount, 2 * heap.count)
        return entries.map(\.owner)
    }

    /// Adds a deadline. Returns how long the timer must be set to, if it has to be set anew.
    mutating func add(_ owner: Owner, at deadline: Moment, now: Moment) -> Duration? {
        heap.insert(Entry(deadline: deadline, owner: owner))
        return rearm(now: now)
    }

    /// Takes an owner whose deadline has come. It may have ended.
    mutating func popDue(now: Moment) -> Owner? {
        guard let first = heap.min, first.deadline <= now else { return nil }
        heap.removeMin()
        return first.owner
    }

    /// To be called when the timer has fired and everything due was taken. Returns how long to set it to.
    mutating func timerFired(now: Moment) -> Duration? {
        armed = nil
        return rearm(now: now)
    }

    private mutating func rearm(now: Moment) -> Duration? {
        guard let first = heap.min?.deadline else { return nil }
        if let armed, armed <= first { return nil }
        armed = first
        return max(.zero, first - now)
    }
}
