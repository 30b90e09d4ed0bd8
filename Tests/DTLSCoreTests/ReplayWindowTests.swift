import DTLSTestKit
import XCTest

@testable import DTLSCore

final class ReplayWindowTests: XCTestCase {
    /// Beside a window that remembers everything, whatever comes in whatever order.
    func testAgainstASetOfNumbers() {
        for (seed, size) in [64, 65, 128, 1_000, 16_384].enumerated() {
            var random = SeededGenerator(seed: UInt64(seed + 1))
            var window = ReplayWindow(size: size)
            XCTAssertEqual(window.size, (size + 63) / 64 * 64)
            var seen: Set<UInt64> = []
            var highest: UInt64?
            var at: UInt64 = 0
            for _ in 0..<20_000 {
                switch Int.random(in: 0..<20, using: &random) {
                case 0: at += UInt64.random(in: 0...UInt64(3 * size), using: &random)
                case 1: at += UInt64.random(in: 1 << 30...1 << 40, using: &random) & (seen.count % 50 == 0 ? .max : 63)
                default: at += 1
                }
                let back = UInt64.random(in: 0...UInt64(window.size + 70), using: &random)
                let number = Bool.random(using: &random) ? at : at - Swift.min(at, back)
                let isOld = highest.map { number <= $0 && $0 - number >= UInt64(window.size) } ?? false
                let expected = !isOld && !seen.contains(number)
                XCTAssertEqual(window.permits(number), expected, "\(size): \(number) below \(highest ?? 0)")
                XCTAssertEqual(window.isNewest(number), highest.map { number > $0 } ?? true)
                guard expected, Bool.random(using: &random) else { continue }
                window.accept(number)
                XCTAssertFalse(window.permits(number))
                seen.insert(number)
                highest = Swift.max(highest ?? 0, number)
            }
        }
    }

    func testTheEndsOfTheNumbers() {
        for size in [64, 256] {
            var window = ReplayWindow(size: size)
            let last: UInt64 = 1 << 48 - 1
            window.accept(last)
            XCTAssertFalse(window.permits(last))
            XCTAssertTrue(window.permits(last - 1))
            XCTAssertTrue(window.permits(last - UInt64(size) + 1))
            XCTAssertFalse(window.permits(last - UInt64(size)))
            XCTAssertFalse(window.permits(0))
            var fresh = ReplayWindow(size: size)
            XCTAssertTrue(fresh.permits(0))
            fresh.accept(0)
            XCTAssertFalse(fresh.permits(0))
        }
    }
}
