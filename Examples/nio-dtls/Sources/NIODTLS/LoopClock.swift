import NIOCore

/// The event loop's time in the engine's terms.
///
/// The loop's clock and no other, so that a test's loop, whose time is made up, decides about deadlines as well.
struct LoopClock {
    private let loop: any EventLoop
    private let instant = ContinuousClock.Instant.now
    private let deadline: NIODeadline

    init(_ loop: any EventLoop) {
        self.loop = loop
        deadline = loop.now
    }

    var now: ContinuousClock.Instant {
        instant + .nanoseconds((loop.now - deadline).nanoseconds)
    }

    /// When the loop is to wake up for a deadline: not before it.
    func deadline(_ instant: ContinuousClock.Instant) -> NIODeadline {
        let (seconds, attoseconds) = (instant - self.instant).components
        // Longer than a hundred years is for ever, and would overflow.
        let limited = min(max(seconds, -3_155_760_000), 3_155_760_000)
        return deadline + .nanoseconds(limited * 1_000_000_000 + attoseconds / 1_000_000_000 + 1)
    }
}
