#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A time of the clock that `ContinuousClock` reads, in nanoseconds.
///
/// Inside of the library it stands for `ContinuousClock.Instant`, whose size a program does not know until it runs: all
/// that holds one is moved about by the run-time.
@frozen
public struct Moment: Comparable, Hashable, Sendable {
    public let nanoseconds: Int64

    @inlinable
    public init(nanoseconds: Int64) {
        self.nanoseconds = nanoseconds
    }

    /// The time that a caller of the library tells.
    public init(_ instant: ContinuousClock.Instant) {
        let anchor = Anchor.shared
        self = anchor.moment + anchor.instant.duration(to: instant)
    }

    /// The same for callers of the library.
    public var instant: ContinuousClock.Instant {
        let anchor = Anchor.shared
        return anchor.instant.advanced(by: self - anchor.moment)
    }

    /// What the clock shows.
    public static var now: Moment {
        var time = timespec()
        clock_gettime(clock, &time)
        return Moment(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    #if canImport(Darwin)
        private static var clock: clockid_t { CLOCK_MONOTONIC_RAW }
    #else
        private static var clock: clockid_t { CLOCK_BOOTTIME }
    #endif

    /// The same time on both.
    private struct Anchor {
        let instant: ContinuousClock.Instant
        let moment: Moment
        /// How much later it was at the most when `instant` was read.
        let uncertainty: Duration

        init() {
            moment = .now
            instant = .now
            uncertainty = .now - moment
        }

        // A thread may lose its turn in between.
        static let shared = (0..<4).map { _ in Anchor() }.min { $0.uncertainty < $1.uncertainty } ?? Anchor()
    }

    @inlinable
    public static func < (left: Moment, right: Moment) -> Bool { left.nanoseconds < right.nanoseconds }

    /// Later by a duration; at most the last moment there is.
    public static func + (moment: Moment, duration: Duration) -> Moment {
        let (sum, overflow) = moment.nanoseconds.addingReportingOverflow(duration.nanoseconds)
        guard overflow else { return Moment(nanoseconds: sum) }
        return Moment(nanoseconds: duration < .zero ? .min : .max)
    }

    /// Earlier by a duration; at least the first moment there is.
    public static func - (moment: Moment, duration: Duration) -> Moment {
        let (difference, overflow) = moment.nanoseconds.subtractingReportingOverflow(duration.nanoseconds)
        guard overflow else { return Moment(nanoseconds: difference) }
        return Moment(nanoseconds: duration < .zero ? .max : .min)
    }

    /// How much later the left one is.
    public static func - (left: Moment, right: Moment) -> Duration {
        let (difference, overflow) = left.nanoseconds.subtractingReportingOverflow(right.nanoseconds)
        return .nanoseconds(overflow ? (left < right ? .min : .max) : difference)
    }

    /// How many milliseconds there are until then, rounded up; 0 when it has come.
    @inlinable
    public func milliseconds(after now: Moment) -> Int64 {
        guard self > now else { return 0 }
        let (nanoseconds, overflow) = nanoseconds.subtractingReportingOverflow(now.nanoseconds)
        return overflow ? .max / 1_000_000 : (nanoseconds - 1) / 1_000_000 + 1
    }

}

extension Duration {
    /// In nanoseconds, of which none has more than an `Int64` holds: some 292 years.
    public var nanoseconds: Int64 {
        Int64(clamping: attoseconds / 1_000_000_000)
    }
}
