import Dispatch
import HeapModule

/// One timer for any number of deadlines, on one queue.
///
/// A deadline cannot be taken back: who was asked too early looks at his own state and does nothing. That keeps the
/// heap without look-ups, and an entry costs nothing until it is due.
struct DeadlineScheduler<Owner: AnyObject & Sendable> {
    private struct Entry: Comparable {
        let deadline: ContinuousClock.Instant
        // Weak, so that who has ended is freed before its deadline comes.
        weak var owner: Owner?

        static func < (left: Entry, right: Entry) -> Bool { left.deadline < right.deadline }
        static func == (left: Entry, right: Entry) -> Bool { left.deadline == right.deadline }
    }

    private var heap = Heap<Entry>()
    private var armed: ContinuousClock.Instant?

    /// Adds a deadline. Returns how long the timer must be set to, if it has to be set anew.
    mutating func add(_ owner: Owner, at deadline: ContinuousClock.Instant, now: ContinuousClock.Instant) -> Duration? {
        heap.insert(Entry(deadline: deadline, owner: owner))
        return rearm(now: now)
    }

    /// Takes an owner whose deadline has come.
    mutating func popDue(now: ContinuousClock.Instant) -> Owner? {
        while let first = heap.min, first.deadline <= now {
            heap.removeMin()
            if let owner = first.owner { return owner }
        }
        return nil
    }

    /// To be called when the timer has fired and everything due was taken. Returns how long to set it to.
    mutating func timerFired(now: ContinuousClock.Instant) -> Duration? {
        armed = nil
        return rearm(now: now)
    }

    private mutating func rearm(now: ContinuousClock.Instant) -> Duration? {
        guard let first = heap.min?.deadline else { return nil }
        if let armed, armed <= first { return nil }
        armed = first
        return max(.zero, first - now)
    }
}

extension Duration {
    /// For Dispatch, rounded up, so that a timer does not fire before its deadline.
    var dispatchInterval: DispatchTimeInterval {
        let (seconds, attoseconds) = components
        let nanoseconds = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !nanoseconds.overflow else { return .never }
        return .nanoseconds(Int(clamping: nanoseconds.partialValue &+ attoseconds / 1_000_000_000 &+ 1))
    }
}
