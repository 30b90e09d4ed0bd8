import Dispatch

/// A time that never goes back, in nanoseconds: cheap enough to be asked for at each datagram.
struct MonotonicTime: Comparable, Sendable {
    let nanoseconds: UInt64

    static var now: MonotonicTime { MonotonicTime(nanoseconds: DispatchTime.now().uptimeNanoseconds) }

    static func < (left: MonotonicTime, right: MonotonicTime) -> Bool { left.nanoseconds < right.nanoseconds }

    static func + (left: MonotonicTime, seconds: Double) -> MonotonicTime {
        // What is longer than some centuries would overflow, and is for ever.
        let added = UInt64(max(0, min(seconds, 9e9)) * 1e9)
        return MonotonicTime(nanoseconds: left.nanoseconds &+ added)
    }
}
