import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// What is read from the handshake before OpenSSL reads it.
final class PreSharedKeyWatchTests: XCTestCase {
    private func observe(_ watch: inout PreSharedKeyWatch, _ records: RecordDump...) {
        records.flatMap(\.bytes).withUnsafeBytes { watch.observe($0) }
    }

    /// A message cut into pieces, each in a record of its own.
    private func fragments(
        type: UInt8,
        _ body: [UInt8],
        size: Int,
        messageSequence: UInt16 = 0
    ) -> [RecordDump] {
        stride(from: 0, to: body.count, by: size).map { offset in
            .handshake(
                type: type,
                messageLength: body.count,
                messageSequence: messageSequence,
                fragmentOffset: offset,
                Array(body[offset...].prefix(size))
            )
        }
    }

    private func exchange(_ identity: [UInt8]) -> [UInt8] {
        [UInt8(identity.count >> 8), UInt8(truncatingIfNeeded: identity.count)] + identity
    }

    func testIdentitiesFromFragmentsInAnyOrder() {
        var generator = SeededGenerator(seed: 7)
        for count in [0, 1, 2, 3, 17, 255, 256] {
            let identity = generator.bytes(count)
            // What follows the identity in an exchange of ECDHE_PSK.
            let body = exchange(identity) + [32] + generator.bytes(32)
            for size in [1, 2, 7, 100, body.count] {
                var watch = PreSharedKeyWatch(role: .server)
                var pieces = fragments(type: 16, body, size: size, messageSequence: 2)
                pieces.shuffle(using: &generator)
                pieces += pieces.prefix(2)
                for piece in pieces { observe(&watch, piece) }
                XCTAssertEqual(watch.identity, identity, "\(count) bytes in pieces of \(size)")
            }
        }
    }

    func testAnIdentityIsNotKnownBeforeItsLastByte() {
        let identity: [UInt8] = [0, 1, 0, 2, 0xFF]
        var watch = PreSharedKeyWatch(role: .server)
        for piece in fragments(type: 16, exchange(identity), size: 1) {
            XCTAssertNil(watch.identity)
            observe(&watch, piece)
        }
        XCTAssertEqual(watch.identity, identity, "zeros are bytes as any other")
    }

    /// A length that is more than OpenSSL takes is no question, and costs nothing.
    func testIdentitiesThatAreTooLong() {
        var watch = PreSharedKeyWatch(role: .server)
        for piece in fragments(type: 16, exchange([UInt8](repeating: 1, count: 257)), size: 100) {
            observe(&watch, piece)
        }
        XCTAssertNil(watch.identity)
        for piece in fragments(type: 16, [0xFF, 0xFF] + [UInt8](repeating: 1, count: 4_000), size: 1_000) {
            observe(&watch, piece)
        }
        XCTAssertNil(watch.identity)
    }

    func testRecordsThatAreNotInClearAreNotRead() {
        var watch = PreSharedKeyWatch(role: .server)
        var sealed = RecordDump.handshake(type: 16, exchange([1]))
        sealed.epoch = 1
        observe(&watch, sealed)
        var data = RecordDump.handshake(type: 16, exchange([1]))
        data.contentType = 23
        observe(&watch, data)
        XCTAssertNil(watch.identity)
    }

    func testAnyBytes() {
        var generator = SeededGenerator(seed: 8)
        let samples = [
            RecordDump.handshake(type: 16, exchange([1, 2, 3])).bytes,
            fragments(type: 16, exchange([UInt8](repeating: 3, count: 200)), size: 40).flatMap(\.bytes),
            RecordDump.handshake(type: 2, serverHello()).bytes
                + RecordDump.handshake(type: 14, messageSequence: 1, []).bytes,
        ]
        for role in [DtlsRole.client, .server] {
            var watch = PreSharedKeyWatch(role: role)
            for _ in 0..<5_000 {
                HostileDatagrams.mutation(of: samples, &generator).withUnsafeBytes { watch.observe($0) }
                XCTAssertLessThanOrEqual(watch.identity?.count ?? 0, 256)
                _ = watch.suite
                _ = watch.hint
            }
        }
    }

    private func serverHello(sessionID: Int = 0, suite: UInt16 = 0x00A8) -> [UInt8] {
        var body: [UInt8] = [0xFE, 0xFD]
        body += [UInt8](repeating: 9, count: 32)
        body += [UInt8(sessionID)] + [UInt8](repeating: 5, count: sessionID)
        return body + [UInt8(suite >> 8), UInt8(truncatingIfNeeded: suite), 0]
    }

    func testTheSuiteOfTheServerHello() {
        for sessionID in [0, 1, 32] {
            for size in [1, 10, 200] {
                var watch = PreSharedKeyWatch(role: .client)
                XCTAssertNil(watch.suite)
                let body = serverHello(sessionID: sessionID, suite: 0xC0A8)
                for piece in fragments(type: 2, body, size: size).reversed() { observe(&watch, piece) }
                XCTAssertEqual(watch.suite, 0xC0A8)
            }
        }
    }

    /// The hint is known to be missing only when the whole flight is there: the ServerKeyExchange may be late.
    func testTheHintIsKnownWithTheWholeFlight() {
        let hello = RecordDump.handshake(type: 2, messageSequence: 1, serverHello())
        let exchange = RecordDump.handshake(type: 12, messageSequence: 2, self.exchange(Array("hint".utf8)))
        let doneBehindExchange = RecordDump.handshake(type: 14, messageSequence: 3, [])
        let done = RecordDump.handshake(type: 14, messageSequence: 2, [])

        var watch = PreSharedKeyWatch(role: .client)
        observe(&watch, doneBehindExchange)
        XCTAssertNil(watch.hint)
        observe(&watch, hello)
        XCTAssertNil(watch.hint, "message 2 is on its way")
        observe(&watch, exchange)
        XCTAssertEqual(watch.hint?.bytes, Array("hint".utf8))

        watch = PreSharedKeyWatch(role: .client)
        observe(&watch, hello, done)
        XCTAssertNotNil(watch.hint)
        XCTAssertNil(watch.hint?.bytes, "there is none")

        watch = PreSharedKeyWatch(role: .client)
        observe(&watch, hello, .handshake(type: 12, messageSequence: 2, [0, 0]), doneBehindExchange)
        XCTAssertNotNil(watch.hint)
        XCTAssertNil(watch.hint?.bytes, "an empty one is none")
    }

    func testAHintInPieces() {
        let hint = [UInt8](repeating: 6, count: 128)
        var watch = PreSharedKeyWatch(role: .client)
        observe(&watch, .handshake(type: 2, messageSequence: 1, serverHello()))
        observe(&watch, .handshake(type: 14, messageSequence: 3, []))
        for piece in fragments(type: 12, exchange(hint), size: 30, messageSequence: 2).reversed() {
            XCTAssertNil(watch.hint)
            observe(&watch, piece)
        }
        XCTAssertEqual(watch.hint?.bytes, hint)
    }

    /// The numbers of a forged ServerHelloDone lead nowhere.
    func testMessageNumbersThatMakeNoSense() {
        for (first, last) in [(5, 5), (5, 4), (1, 64), (1, 65_535), (0, 63)] as [(UInt16, UInt16)] {
            var watch = PreSharedKeyWatch(role: .client)
            observe(&watch, .handshake(type: 2, messageSequence: first, serverHello()))
            observe(&watch, .handshake(type: 14, messageSequence: last, []))
            XCTAssertNil(watch.hint, "\(first) to \(last)")
        }
    }
}
