import DTLSTestSupport
import XCTest

@testable import DTLSCore

final class DatagramQueueTests: XCTestCase {
    private func drained(_ queue: inout DatagramQueue) -> [[UInt8]] {
        var datagrams: [[UInt8]] = []
        queue.drain { datagrams.append(Array($0)) }
        return datagrams
    }

    private func append(_ bytes: [UInt8], to queue: inout DatagramQueue) {
        bytes.withUnsafeBytes { queue.append($0) }
    }

    func testDatagramsComeOutAsTheyWentIn() {
        var queue = DatagramQueue()
        XCTAssertTrue(queue.isEmpty)
        XCTAssertEqual(drained(&queue), [])
        let datagrams: [[UInt8]] = [[1], [], [2, 3], [UInt8](repeating: 4, count: 20_000), [5]]
        for round in 0..<3 {
            for datagram in datagrams { append(datagram, to: &queue) }
            XCTAssertEqual(queue.count, datagrams.count)
            XCTAssertFalse(queue.isEmpty)
            XCTAssertTrue(drained(&queue) == datagrams, "round \(round)")
            XCTAssertTrue(queue.isEmpty)
            XCTAssertEqual(drained(&queue), [])
        }
    }

    func testExtendingTheLast() {
        var queue = DatagramQueue()
        XCTAssertEqual(queue.lastCount, 0)
        [UInt8(1)].withUnsafeBytes { queue.extendLast($0) }
        XCTAssertEqual(queue.count, 1, "the first one if there is none")
        append([2, 2], to: &queue)
        [UInt8(3)].withUnsafeBytes { queue.extendLast($0) }
        XCTAssertEqual(queue.lastCount, 3)
        XCTAssertEqual(queue.count, 2)
        XCTAssertEqual(drained(&queue), [[1], [2, 2, 3]])
        XCTAssertEqual(queue.lastCount, 0)
    }

    func testWritingInPlace() {
        var queue = DatagramQueue()
        append([9], to: &queue)
        XCTAssertTrue(
            queue.append(capacity: 10) { buffer in
                XCTAssertEqual(buffer.count, 10)
                buffer[0] = 1
                buffer[1] = 2
                return 2
            }
        )
        XCTAssertFalse(queue.append(capacity: 10) { _ in nil }, "nothing was written")
        XCTAssertTrue(queue.append(capacity: 4) { _ in 0 }, "an empty datagram is one")
        // A writer that claims what cannot be is not believed.
        XCTAssertTrue(queue.append(capacity: 2) { _ in 100 })
        XCTAssertTrue(queue.append(capacity: 2) { _ in -1 })
        append([7], to: &queue)
        XCTAssertEqual(drained(&queue), [[9], [1, 2], [], [0, 0], [], [7]])
    }

    func testChangingTheLastBytes() {
        var queue = DatagramQueue()
        append([1, 2], to: &queue)
        append([3, 4], to: &queue)
        queue.withLastBytes(3) { bytes in
            XCTAssertEqual(Array(bytes), [2, 3, 4])
            bytes[0] = 9
        }
        queue.withLastBytes(100) { XCTAssertEqual($0.count, 4) }
        queue.withLastBytes(0) { XCTAssertEqual($0.count, 0) }
        XCTAssertEqual(drained(&queue), [[1, 9], [3, 4]])
    }

    func testForgetting() {
        var queue = DatagramQueue()
        append([1], to: &queue)
        queue.removeAll()
        XCTAssertEqual(drained(&queue), [])
        append([2], to: &queue)
        XCTAssertEqual(drained(&queue), [[2]])
    }
}
