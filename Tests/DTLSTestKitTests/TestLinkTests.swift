import DTLSTestKit
import XCTest

/// The link does what its conditions say, as often as they say, and the same for the same seed.
final class TestLinkTests: XCTestCase {
    private let start = ContinuousClock.now
    private let count = 10_000

    /// What arrives of numbered datagrams of eight bytes, sent a millisecond apart, and when.
    private func carry(
        _ conditions: DtlsLinkConditions,
        seed: UInt64 = 1,
        size: Int = 8
    ) -> (arrived: [(bytes: [UInt8], time: Duration)], link: DtlsTestLink) {
        var link = DtlsTestLink(conditions, seed: seed)
        var arrived: [(bytes: [UInt8], time: Duration)] = []
        func take(until now: ContinuousClock.Instant) {
            while let next = link.nextArrival, next <= now, let bytes = link.receive(now: next) {
                arrived.append((bytes, next - start))
            }
        }
        for index in 0..<count {
            let now = start + .milliseconds(index)
            take(until: now)
            link.send(datagram(index, size: size), now: now)
        }
        take(until: start + .seconds(3_600))
        XCTAssertTrue(link.isEmpty)
        XCTAssertNil(link.nextArrival)
        XCTAssertEqual(link.counts.sent, count)
        XCTAssertEqual(link.counts.delivered, arrived.count)
        return (arrived, link)
    }

    private func datagram(_ index: Int, size: Int = 8) -> [UInt8] {
        withUnsafeBytes(of: UInt64(index).bigEndian) { Array($0) } + [UInt8](repeating: 7, count: size - 8)
    }

    private func number(_ bytes: [UInt8]) -> Int {
        bytes.prefix(8).reduce(0) { $0 << 8 | Int($1) }
    }

    /// Four standard deviations of a count that each of `count` datagrams adds to with this probability, and seeds are
    /// fixed.
    private func assertAbout(_ actual: Int, _ probability: Double, _ message: String, line: UInt = #line) {
        let expected = Double(count) * probability
        let deviation = (expected * (1 - probability)).squareRoot()
        XCTAssertEqual(Double(actual), expected, accuracy: 4 * deviation, message, line: line)
    }

    func testAPlainLinkCarriesEverythingInOrder() {
        let (arrived, _) = carry(DtlsLinkConditions())
        XCTAssertTrue(arrived.map { number($0.bytes) } == Array(0..<count))
        XCTAssertTrue(arrived.map(\.time) == (0..<count).map { .milliseconds($0) })
    }

    func testTheSameSeedHasTheSameOutcome() {
        let conditions = DtlsLinkConditions(
            loss: 0.2,
            duplication: 0.1,
            reordering: 0.2,
            corruption: 0.1,
            truncation: 0.1,
            delay: .milliseconds(3) ... .milliseconds(9)
        )
        let first = carry(conditions, seed: 7)
        let second = carry(conditions, seed: 7)
        let other = carry(conditions, seed: 8)
        XCTAssertTrue(first.arrived.map(\.bytes) == second.arrived.map(\.bytes))
        XCTAssertTrue(first.arrived.map(\.time) == second.arrived.map(\.time))
        XCTAssertEqual(first.link.counts, second.link.counts)
        XCTAssertFalse(first.arrived.map(\.bytes) == other.arrived.map(\.bytes))
    }

    func testLoss() {
        for loss in [0.1, 0.5, 1] {
            let (arrived, link) = carry(DtlsLinkConditions(loss: loss))
            assertAbout(link.counts.lost, loss, "lost")
            XCTAssertEqual(arrived.count, count - link.counts.lost)
            XCTAssertTrue(zip(arrived, arrived.dropFirst()).allSatisfy { number($0.bytes) < number($1.bytes) })
        }
    }

    func testLossOnDemand() {
        var link = DtlsTestLink(seed: 1)
        link.losesNext = 2
        for index in 0..<3 { link.send(datagram(index), now: start) }
        XCTAssertEqual(link.receive(now: start).map(number), 2)
        XCTAssertNil(link.receive(now: start))
        XCTAssertEqual(link.counts.lost, 2)
    }

    func testDuplication() {
        let (arrived, link) = carry(DtlsLinkConditions(duplication: 0.2))
        assertAbout(link.counts.duplicated, 0.2, "duplicated")
        XCTAssertEqual(arrived.count, count + link.counts.duplicated)
        let times = Dictionary(grouping: arrived) { number($0.bytes) }.mapValues(\.count)
        XCTAssertEqual(times.count, count)
        XCTAssertEqual(times.values.filter { $0 == 2 }.count, link.counts.duplicated)
        XCTAssertEqual(times.values.max(), 2)
    }

    func testReordering() {
        let (arrived, link) = carry(
            DtlsLinkConditions(reordering: 0.2, delay: .milliseconds(5) ... .milliseconds(5))
        )
        assertAbout(link.counts.reordered, 0.2, "reordered")
        let numbers = arrived.map { number($0.bytes) }
        XCTAssertTrue(numbers.sorted() == Array(0..<count), "one is missing")
        let overtaken = zip(numbers, numbers.dropFirst()).filter { $0 > $1 }.count
        assertAbout(overtaken, 0.2 * 0.8, "runs of them that were overtaken")
    }

    func testWhatIsToBeOvertakenArrivesWithNothingBehindIt() {
        var link = DtlsTestLink(DtlsLinkConditions(reordering: 1), seed: 1)
        link.send(datagram(1), now: start)
        XCTAssertEqual(link.receive(now: start).map(number), 1)
    }

    func testCorruption() {
        let (arrived, link) = carry(DtlsLinkConditions(corruption: 0.2))
        assertAbout(link.counts.corrupted, 0.2, "corrupted")
        XCTAssertEqual(arrived.count, count)
        var changed = 0
        for (index, datagram) in arrived.enumerated() {
            let bits = zip(datagram.bytes, self.datagram(index)).map { ($0 ^ $1).nonzeroBitCount }.reduce(0, +)
            XCTAssertLessThanOrEqual(bits, 1)
            changed += bits
        }
        XCTAssertEqual(changed, link.counts.corrupted)
    }

    func testTruncation() {
        let (arrived, link) = carry(DtlsLinkConditions(truncation: 0.2))
        assertAbout(link.counts.truncated, 0.2, "truncated")
        XCTAssertEqual(arrived.count, count)
        XCTAssertEqual(arrived.filter { $0.bytes.count < 8 }.count, link.counts.truncated)
        for (index, datagram) in arrived.enumerated() {
            XCTAssertTrue(self.datagram(index).starts(with: datagram.bytes))
        }
    }

    func testDelay() {
        let (arrived, _) = carry(DtlsLinkConditions(delay: .milliseconds(20) ... .milliseconds(60)))
        let delays = arrived.map { $0.time - .milliseconds(number($0.bytes)) }
        XCTAssertGreaterThanOrEqual(delays.min() ?? .zero, .milliseconds(20))
        XCTAssertLessThan(delays.min() ?? .zero, .milliseconds(21))
        XCTAssertLessThanOrEqual(delays.max() ?? .zero, .milliseconds(60))
        XCTAssertGreaterThan(delays.max() ?? .zero, .milliseconds(59))
        XCTAssertTrue(zip(arrived, arrived.dropFirst()).allSatisfy { $0.time <= $1.time })

        var link = DtlsTestLink(DtlsLinkConditions(delay: .seconds(1) ... .seconds(1)), seed: 1)
        link.send(datagram(1), now: start)
        XCTAssertNil(link.receive(now: start + .milliseconds(999)))
        XCTAssertNotNil(link.receive(now: start + .seconds(1)))
    }

    func testMTU() {
        for (size, passes) in [(1_200, true), (1_201, false)] {
            var link = DtlsTestLink(DtlsLinkConditions(mtu: 1_200), seed: 1)
            link.send(datagram(1, size: size), now: start)
            XCTAssertEqual(link.receive(now: start) != nil, passes)
            XCTAssertEqual(link.counts.tooLarge, passes ? 0 : 1)
        }
    }

    func testValidation() throws {
        try DtlsLinkConditions(loss: 1, duplication: 1, reordering: 1, corruption: 1, truncation: 1, mtu: 1).validate()
        for conditions in [
            DtlsLinkConditions(loss: 1.1), .init(duplication: -0.1), .init(reordering: .nan),
            .init(corruption: .infinity), .init(truncation: 2), .init(delay: .seconds(-1) ... .zero),
            .init(delay: .zero ... .seconds(61)), .init(mtu: 0), .init(mtu: 65_508),
        ] {
            XCTAssertThrowsError(try conditions.validate(), "\(conditions)")
            // Out of range is not out of bounds.
            var link = DtlsTestLink(conditions, seed: 1)
            link.send(datagram(1), now: start)
        }
    }
}
