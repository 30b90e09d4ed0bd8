import XCTest

@testable import DTLSCore

final class LifecycleTests: XCTestCase {
    private let failure = DtlsCloseReason.failed(DtlsError(.handshakeFailed, "it failed"))

    func testTheUsualWay() {
        var lifecycle = Lifecycle()
        XCTAssertFalse(lifecycle.isHandshaking)
        XCTAssertFalse(lifecycle.isOpen)
        XCTAssertTrue(lifecycle.start())
        XCTAssertTrue(lifecycle.isHandshaking)
        XCTAssertTrue(lifecycle.finish())
        XCTAssertTrue(lifecycle.isOpen)
        XCTAssertFalse(lifecycle.isHandshaking)
        XCTAssertNil(lifecycle.closeReason)
        XCTAssertTrue(lifecycle.end(.closedByPeer))
        XCTAssertFalse(lifecycle.isOpen)
        XCTAssertEqual(lifecycle.closeReason, .closedByPeer)
    }

    func testWhatIsNotAllowedChangesNothing() {
        var lifecycle = Lifecycle()
        XCTAssertFalse(lifecycle.finish(), "not before the start")
        XCTAssertFalse(lifecycle.isOpen)
        XCTAssertTrue(lifecycle.start())
        XCTAssertFalse(lifecycle.start(), "not twice")
        XCTAssertTrue(lifecycle.finish())
        XCTAssertFalse(lifecycle.finish(), "not twice")
        XCTAssertFalse(lifecycle.start(), "not from the midst")
        XCTAssertTrue(lifecycle.isOpen)
    }

    func testTheFirstReasonStays() {
        var lifecycle = Lifecycle()
        XCTAssertTrue(lifecycle.start())
        XCTAssertTrue(lifecycle.end(failure))
        XCTAssertFalse(lifecycle.end(.closedLocally))
        XCTAssertFalse(lifecycle.start())
        XCTAssertFalse(lifecycle.finish())
        XCTAssertEqual(lifecycle.closeReason, failure)
        XCTAssertFalse(lifecycle.isHandshaking)
        XCTAssertFalse(lifecycle.isOpen)
    }

    func testTheEndMayComeFirst() {
        var lifecycle = Lifecycle()
        XCTAssertTrue(lifecycle.end(.closedLocally))
        XCTAssertFalse(lifecycle.start())
        XCTAssertEqual(lifecycle.closeReason, .closedLocally)
    }

    func testReasonsAreLinesForLogs() {
        let reasons = [DtlsCloseReason.closedLocally, .closedByPeer, .replacedByPeer, failure]
        XCTAssertEqual(Set(reasons.map(\.description)).count, 4)
        for reason in reasons { XCTAssertFalse(reason.description.contains(where: \.isNewline)) }
    }
}
