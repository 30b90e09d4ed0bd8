import XCTest

@testable import DTLS

/// In which order what was read at once is handled.
final class ReadOrderTests: XCTestCase {
    private func all(_ order: ReadOrder) -> [Int] {
        var order = order
        var indices: [Int] = []
        while let index = order.next() { indices.append(index) }
        XCTAssertTrue(order.isEmpty)
        return indices
    }

    func testAsTheyCame() {
        for count in 0...32 { XCTAssertEqual(all(ReadOrder(count)), Array(0..<count)) }
        XCTAssertTrue(ReadOrder().isEmpty)
        XCTAssertTrue(ReadOrder(0).isEmpty)
    }

    func testInGroups() {
        var order = ReadOrder()
        let datagrams: [(contentType: UInt8, epoch: UInt16, messageType: UInt8)] = [
            (23, 1, 0), (22, 0, 16), (22, 0, 1), (21, 0, 1), (22, 0, 1), (23, 1, 16), (20, 0, 1), (22, 1, 1),
        ]
        for (index, datagram) in datagrams.enumerated() {
            order.add(index, .init(datagram.contentType, epoch: datagram.epoch, datagram.messageType))
        }
        XCTAssertEqual(all(order), [2, 4, 1, 6, 7, 0, 3, 5])
    }

    func testTheLastOfAll() {
        var order = ReadOrder()
        for index in 0..<32 { order.add(index, index == 31 ? .hello : .other) }
        XCTAssertEqual(all(order), [31] + Array(0..<31))
    }
}
