import DTLSPrimitives
import XCTest

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The library's own time, beside the clock that its callers read.
final class MomentTests: XCTestCase {
    /// The clock that goes on while the machine sleeps.
    func testItIsTheClocksTime() {
        #if canImport(Darwin)
            let clock = CLOCK_MONOTONIC_RAW
        #else
            let clock = CLOCK_BOOTTIME
        #endif
        func read() -> Int64 {
            var time = timespec()
            clock_gettime(clock, &time)
            return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
        }
        let before = read()
        let now = Moment.now.nanoseconds
        XCTAssertTrue((before...read()).contains(now))
    }

    /// Callers' instants are ordered as moments are, but for what the two were apart when they were set side by side.
    func testInstantsGoAlong() {
        for _ in 0..<100 {
            let before = ContinuousClock.now
            let moment = Moment.now
            let instant = moment.instant
            XCTAssertGreaterThan(instant, before - .seconds(1))
            XCTAssertLessThan(instant, ContinuousClock.now + .seconds(1))
        }
    }

    func testAnInstantComesBackAsItWas() {
        let start = ContinuousClock.now
        for offset in [Duration.zero, .nanoseconds(1), .seconds(3), .seconds(-3), .seconds(1 << 30)] {
            let instant = start + offset
            XCTAssertEqual(Moment(instant).instant, instant)
            XCTAssertEqual(Moment(start) + offset, Moment(instant))
        }
        XCTAssertLessThan(Moment(start), Moment(start + .nanoseconds(1)))
    }

    func testNothingOverflows() {
        let last = Moment(nanoseconds: .max)
        let first = Moment(nanoseconds: .min)
        let long = Duration.seconds(Int64.max)
        XCTAssertEqual(Moment.now + long, last)
        XCTAssertLessThan(Moment.now - long, Moment(nanoseconds: 0))
        XCTAssertEqual(last + .nanoseconds(1), last)
        XCTAssertEqual(first - .nanoseconds(1), first)
        XCTAssertEqual(first + .seconds(-1), first)
        XCTAssertEqual(last - .seconds(-1), last)
        XCTAssertEqual(last - first, .nanoseconds(Int64.max))
        XCTAssertEqual(first - last, .nanoseconds(Int64.min))
        XCTAssertEqual(long.nanoseconds, .max)
        XCTAssertEqual((long + long).nanoseconds, .max)
        XCTAssertEqual(Moment(ContinuousClock.now + long), last)
        XCTAssertEqual((.zero - long).nanoseconds, .min)
        XCTAssertGreaterThan(last.milliseconds(after: first), 1 << 40)
    }

    func testMillisecondsAreRoundedUp() {
        let now = Moment.now
        XCTAssertEqual(now.milliseconds(after: now), 0)
        XCTAssertEqual((now - .seconds(1)).milliseconds(after: now), 0)
        XCTAssertEqual((now + .nanoseconds(1)).milliseconds(after: now), 1)
        XCTAssertEqual((now + .milliseconds(5)).milliseconds(after: now), 5)
        XCTAssertEqual((now + .milliseconds(5) + .nanoseconds(1)).milliseconds(after: now), 6)
    }
}
