import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What OpenSSL is shown of fragments.
final class MessageReassemblyTests: XCTestCase {
    private var drops = DtlsDrops()

    /// What passes of a datagram, with the types and bodies of its records: `nil` for each that is not a whole message.
    private func pass(_ records: [RecordDump], _ reassembly: inout MessageReassembly) throws -> [RecordDump] {
        let datagram = records.flatMap(\.bytes)
        var slices: RecordFilter.Slices = [0..<datagram.count]
        var arranged: [UInt8] = []
        let isArranged = datagram.withUnsafeBytes {
            reassembly.arrange($0, &slices, into: &arranged, counting: &drops)
        }
        let passed = isArranged ? arranged : datagram
        return try slices.flatMap { try XCTUnwrap(RecordDump.parse(Array(passed[$0]))) }.map {
            var record = $0
            record.sequenceNumber = 0
            return record
        }
    }

    private func message(_ sequence: UInt16, _ count: Int, type: UInt8 = 11, seed: UInt64 = 1) -> (
        body: [UInt8], whole: RecordDump
    ) {
        var generator = SeededGenerator(seed: seed &+ UInt64(sequence))
        let body = generator.bytes(count)
        return (body, RecordDump.handshake(type: type, messageSequence: sequence, body))
    }

    private func cut(_ body: [UInt8], _ sequence: UInt16, type: UInt8 = 11, into size: Int) -> [RecordDump] {
        stride(from: 0, to: body.count, by: size).map { offset in
            RecordDump.handshake(
                type: type,
                messageLength: body.count,
                messageSequence: sequence,
                fragmentOffset: offset,
                Array(body[offset..<Swift.min(offset + size, body.count)])
            )
        }
    }

    private func make(_ maximumBytes: Int = 131_072, first: UInt16 = 0) -> MessageReassembly {
        MessageReassembly(maximumBytes: maximumBytes, first: first)
    }

    func testWholeMessagesPassUntouched() throws {
        var reassembly = make()
        let records = [message(0, 70).whole, message(1, 0, type: 14).whole, RecordDump(contentType: 20, body: [1])]
        XCTAssertEqual(try pass(records, &reassembly), records)
        XCTAssertEqual(try pass([message(0, 70).whole], &reassembly), [], "a repetition passed")
        XCTAssertEqual(reassembly.cost, 0)
        XCTAssertEqual(drops.total, 0)
    }

    func testFragmentsInAnyOrderMakeTheMessage() throws {
        for seed in UInt64(0)..<200 {
            var generator = SeededGenerator(seed: seed)
            let (body, whole) = message(3, Int.random(in: 1...900, using: &generator), seed: seed)
            var reassembly = make(first: 3)
            // Cut twice, differently, so that they overlap; all of it in any order.
            var fragments = cut(body, 3, into: Int.random(in: 1...400, using: &generator))
            if seed % 2 == 0 { fragments += cut(body, 3, into: Int.random(in: 1...400, using: &generator)) }
            fragments.shuffle(using: &generator)
            var passed: [RecordDump] = []
            for fragment in fragments { passed += try pass([fragment], &reassembly) }
            XCTAssertEqual(passed, body.count > 500 ? cut(body, 3, into: 500) : [whole], "seed \(seed)")
            XCTAssertEqual(reassembly.cost, 0, "seed \(seed)")
        }
        XCTAssertEqual(drops.total, 0)
    }

    func testMessagesWaitForTheirTurn() throws {
        var reassembly = make()
        let messages = (UInt16(0)..<5).map { message($0, 30).whole }
        let change = RecordDump(contentType: 20, body: [1])
        XCTAssertEqual(try pass([messages[4]], &reassembly), [])
        XCTAssertEqual(try pass([messages[2], messages[3]], &reassembly), [])
        XCTAssertEqual(try pass([messages[0]], &reassembly), [messages[0]])
        // What waited comes before the record that ends the flight.
        XCTAssertEqual(try pass([messages[1], change], &reassembly), Array(messages[1...]) + [change])
        XCTAssertEqual(drops.total, 0)
    }

    func testAMessageThatComesInItsTurnTakesPrecedence() throws {
        var reassembly = make()
        let genuine = (UInt16(0)..<2).map { message($0, 30).whole }
        XCTAssertEqual(try pass([message(1, 30, seed: 99).whole], &reassembly), [])
        XCTAssertEqual(try pass(genuine, &reassembly), genuine)
        XCTAssertEqual(drops[.improperHandshakeMessage], 1)
    }

    func testFragmentsThatClaimOtherLengthsAreNoHarm() throws {
        var reassembly = make()
        let (body, whole) = message(0, 500)
        let bomb = { (length: Int, type: UInt8) in
            RecordDump.handshake(type: type, messageLength: length, messageSequence: 0, fragmentOffset: 3, [7])
        }
        var passed: [RecordDump] = []
        for (index, fragment) in cut(body, 0, into: 100).enumerated() {
            passed += try pass([bomb(501 + index, 11), fragment, bomb(500, 2), bomb(65_536, 11)], &reassembly)
        }
        // The last two bombs came when the message had passed, as repetitions do.
        XCTAssertEqual(passed, [whole])
        XCTAssertEqual(drops[.improperHandshakeMessage] + drops[.reassemblyLimit], 5 + 4 + 4)
        XCTAssertEqual(reassembly.cost, 0)
    }

    func testContradictionsAreKeptApart() throws {
        var reassembly = make()
        let (body, whole) = message(0, 500)
        let forged = RecordDump.handshake(type: 11, messageLength: 500, fragmentOffset: 250, [~body[250]])
        XCTAssertEqual(try pass([forged], &reassembly), [])
        let fragments = cut(body, 0, into: 100)
        XCTAssertEqual(try pass(fragments, &reassembly), [], "the forged byte was believed or forgotten")
        // Of the genuine ones, those before the contradiction have to come again.
        XCTAssertEqual(try pass(Array(fragments.prefix(2)), &reassembly), [whole])
        XCTAssertEqual(drops[.improperHandshakeMessage], 1)
    }

    func testMessagesPassInRecordsOfTheSmallestSizeThatMayBeNegotiated() throws {
        var reassembly = make()
        let (body, _) = message(0, 102_400)
        var passed: [RecordDump] = []
        for fragment in cut(body, 0, into: 1_100) { passed += try pass([fragment], &reassembly) }
        XCTAssertEqual(passed, cut(body, 0, into: 500))
        // The smallest that a peer may ask for (RFC 6066 §4).
        XCTAssertTrue(passed.allSatisfy { $0.body.count <= 512 })
    }

    /// A wait in which nothing came of a flight: OpenSSL may have dropped a message unread, so it passes again.
    func testARepeatedFlightPassesAgain() throws {
        var reassembly = make()
        let messages = (UInt16(0)..<4).map { message($0, 30).whole }
        XCTAssertEqual(try pass(Array(messages[..<2]), &reassembly), Array(messages[..<2]))
        reassembly.flightAnswered()
        XCTAssertEqual(try pass(Array(messages[2...]), &reassembly), Array(messages[2...]))
        XCTAssertEqual(try pass(messages, &reassembly), [], "a repetition passed before its time")
        reassembly.waitExpired(counting: &drops)
        XCTAssertEqual(try pass(messages, &reassembly), Array(messages[2...]), "of the flight under way only")
    }

    /// Small fragments do not drive out what is nearly whole, and what nobody adds to is given up.
    func testSmallFragmentsDriveNothingOut() throws {
        var reassembly = make()
        let (body, whole) = message(0, 400)
        let fragments = cut(body, 0, into: 100)
        var passed = try pass([fragments[0]], &reassembly)
        for length in 1_000..<1_200 {
            passed += try pass([RecordDump.handshake(type: 11, messageLength: length, [1])], &reassembly)
        }
        passed += try pass(Array(fragments[1...]), &reassembly)
        XCTAssertEqual(passed, [whole])
        XCTAssertEqual(drops.total, 200)
        XCTAssertEqual(
            try pass([RecordDump.handshake(type: 11, messageLength: 50, messageSequence: 1, [1])], &reassembly),
            []
        )
        reassembly.waitExpired(counting: &drops)
        XCTAssertGreaterThan(reassembly.cost, 0)
        reassembly.waitExpired(counting: &drops)
        XCTAssertEqual(reassembly.cost, 0)
        XCTAssertEqual(drops.total, 201)
    }

    /// No datagram costs much: of a crowd of fragments a few are looked at.
    func testACrowdOfFragmentsInOneDatagram() throws {
        var reassembly = make()
        let crowd = (0..<1_000).map {
            RecordDump.handshake(type: 11, messageLength: 60_000, fragmentOffset: 2 * $0, [1])
        }
        XCTAssertEqual(try pass(crowd, &reassembly), [])
        XCTAssertEqual(drops[.improperHandshakeMessage], 1_000 - MessageReassembly.maximumFragments)
    }

    func testWhatIsKeptIsBounded() throws {
        var reassembly = make(20_000)
        var generator = SeededGenerator(seed: 5)
        for index in 0..<5_000 {
            let length = Int.random(in: 1_000...100_000, using: &generator)
            let size = Int.random(in: 1...900, using: &generator)
            let fragment = RecordDump.handshake(
                type: 11,
                messageLength: length,
                messageSequence: UInt16(index % 12),
                fragmentOffset: Int.random(in: 0...(length - size), using: &generator),
                generator.bytes(size)
            )
            XCTAssertEqual(try pass([fragment], &reassembly), [])
            XCTAssertLessThanOrEqual(reassembly.cost, 20_000)
        }
        XCTAssertGreaterThan(drops[.reassemblyLimit], 3_000)
        // Two of twelve were beyond the window.
        XCTAssertGreaterThan(drops[.improperHandshakeMessage], 800)
        let dropped = drops.total
        reassembly.finish(counting: &drops)
        XCTAssertEqual(drops.total, 5_000, "\(dropped) were counted before the end")
        XCTAssertEqual(reassembly.cost, 0)
        // And genuine ones still pass.
        let (body, _) = message(0, 5_000)
        XCTAssertEqual(try pass(cut(body, 0, into: 1_000), &reassembly), cut(body, 0, into: 500))
    }
}
