import DTLSPrimitives
import XCTest

/// The library's own time, beside the clock that its callers read.
final class MomentTests: XCTestCase {
    func testItIsTheClocksTime() {
        let before = ContinuousClock.now
        let moment = Moment.now
        let after = ContinuousClock.now
        // The two were set side by side once, one after the other: that is what they may be apart.
        XCTAssertGreaterThanOrEqual(Moment(after) + .milliseconds(100), moment)
        XCTAssertLessThanOrEqual(Moment(before) - .milliseconds(100), moment)
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
