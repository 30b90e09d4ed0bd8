import XCTest

@testable import DTLS

/// When a loop looks for datagrams once more before it waits.
final class SecondLookTests: XCTestCase {
    /// How many of `count` wake-ups look, of which each finds something or not.
    private func looks(_ look: inout SecondLook, _ count: Int, finding: (Int) -> Bool) -> Int {
        (0..<count).count { index in
            guard look.isWorthwhile() else { return false }
            look.found(finding(index))
            return true
        }
    }

    func testPeersFarAwayCostNextToNothing() {
        var look = SecondLook()
        XCTAssertLessThanOrEqual(looks(&look, 6_400) { _ in false }, 100)
    }

    func testAPeerNearbyIsFoundOutAndKept() {
        var look = SecondLook()
        _ = looks(&look, 80) { _ in true }
        XCTAssertEqual(looks(&look, 1_000) { _ in true }, 1_000)
    }

    func testWhoGoesAwayIsForgotten() {
        var look = SecondLook()
        _ = looks(&look, 1_000) { _ in true }
        XCTAssertLessThanOrEqual(looks(&look, 1_000) { _ in false }, 30)
    }

    func testOneInTenIsNotWorthIt() {
        var look = SecondLook()
        _ = looks(&look, 1_000) { _ in true }
        XCTAssertLessThanOrEqual(looks(&look, 10_000) { $0 % 10 == 0 }, 400)
    }
}
