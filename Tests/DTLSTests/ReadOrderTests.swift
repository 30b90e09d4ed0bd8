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
        let datagrams: [(UInt8, UInt8)] = [(23, 0), (22, 16), (22, 1), (21, 1), (22, 1), (23, 16), (20, 1), (22, 11)]
        for (index, datagram) in datagrams.enumerated() { order.add(index, .init(datagram.0, datagram.1)) }
        XCTAssertEqual(all(order), [2, 4, 1, 7, 0, 3, 5, 6])
    }

    func testTheLastOfAll() {
        var order = ReadOrder()
        for index in 0..<32 { order.add(index, index == 31 ? .hello : .other) }
        XCTAssertEqual(all(order), [31] + Array(0..<31))
    }
}
