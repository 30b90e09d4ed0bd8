import DTLSTestSupport
import XCTest

@testable import DTLSCore

final class ClientHelloLayoutTests: XCTestCase {
    private func layout(_ datagram: [UInt8]) throws -> ClientHelloLayout {
        try datagram.withUnsafeBytes { try ClientHelloLayout($0) }
    }

    private func problem(_ datagram: [UInt8]) -> ClientHelloLayout.Problem? {
        do {
            _ = try layout(datagram)
            return nil
        } catch {
            return error as? ClientHelloLayout.Problem
        }
    }

    private var hello: HandmadeHello {
        var hello = HandmadeHello()
        hello.sessionID = Array(1...32)
        hello.cookie = Array(1...16)
        hello.suites = [0xC0A8, 0x00A8]
        hello.compressionMethods = [1, 0]
        hello.extensions = [0, 4, 0, 23, 0, 0]
        hello.messageSequence = 1
        hello.recordSequence = 0x0102_0304_0506
        return hello
    }

    func testEveryField() throws {
        let datagram = hello.datagram + [1, 2, 3]
        let layout = try layout(datagram)
        XCTAssertEqual(Array(datagram[layout.start.random]), hello.random)
        XCTAssertEqual(Array(datagram[layout.start.cookie]), hello.cookie)
        XCTAssertEqual(Array(datagram[layout.cipherSuites]), [0xC0, 0xA8, 0x00, 0xA8])
        XCTAssertEqual(
            Array(datagram[layout.start.beforeCookie]),
            [0xFE, 0xFD] + hello.random + [32] + hello.sessionID
        )
        XCTAssertEqual(Array(datagram[layout.afterCookie]), [0, 4, 0xC0, 0xA8, 0x00, 0xA8, 2, 1, 0])
        XCTAssertEqual(layout.record, 0..<hello.datagram.count, "what follows the record is no part of it")
        XCTAssertEqual(layout.messageSequence, 1)
        XCTAssertEqual(layout.recordSequenceNumber, 0x0102_0304_0506)
        XCTAssertEqual(datagram.withUnsafeBytes { layout.hello(in: $0) }.offer.cipherSuites, [0xC0A8, 0x00A8])
    }

    /// A datagram cut anywhere is none.
    func testCutAtEveryLength() {
        let datagram = hello.datagram
        for count in 0..<datagram.count {
            XCTAssertEqual(problem(Array(datagram.prefix(count))), .notAClientHello, "\(count) bytes")
        }
    }

    /// A message whose headers agree but whose fields reach beyond its end, cut at every length.
    func testABodyCutAtEveryLength() {
        let body = hello.body
        let withoutExtensions = body.count - hello.extensions.count
        for count in 0..<body.count {
            let datagram = RecordDump.handshake(type: 1, Array(body.prefix(count))).bytes
            XCTAssertEqual(problem(datagram), count < withoutExtensions ? .malformed : nil, "\(count) bytes")
        }
    }

    /// Each length field with each value: nothing is read beyond the message.
    func testEveryValueOfEveryLength() {
        let body = hello.body
        let lengths = [34, 34 + 33, 34 + 33 + 17, 34 + 33 + 18, 34 + 33 + 17 + 6]
        for position in lengths {
            for value in UInt8.min...UInt8.max {
                var changed = body
                changed[position] = value
                let datagram = RecordDump.handshake(type: 1, changed).bytes
                if let layout = try? layout(datagram) {
                    XCTAssertLessThanOrEqual(layout.afterCookie.upperBound, datagram.count)
                    XCTAssertLessThanOrEqual(layout.start.cookie.upperBound, layout.afterCookie.lowerBound)
                }
            }
        }
    }

    func testHellosThatMakeNoSense() {
        let changes: [(String, (inout HandmadeHello) -> Void)] = [
            ("no suite", { $0.suites = [] }),
            ("no compression", { $0.compressionMethods = [] }),
            ("TLS", { $0.version = 0x0303 }),
            ("a session ID of 33 bytes", { $0.sessionID = Array(repeating: 7, count: 33) }),
        ]
        for (name, change) in changes {
            var changed = hello
            change(&changed)
            XCTAssertEqual(problem(changed.datagram), .malformed, name)
        }
        // Three bytes of suites, behind which one compression method follows all the same.
        var half = hello
        half.suites = [0xC0A8, 0x0001]
        var body = half.body
        XCTAssertEqual(body[85], 4)
        body[85] = 3
        XCTAssertEqual(problem(RecordDump.handshake(type: 1, body).bytes), .malformed, "half a suite")
    }

    func testOtherMessagesAndFragments() {
        XCTAssertEqual(problem(RecordDump.handshake(type: 2, hello.body).bytes), .notAClientHello)
        let fragment = RecordDump.handshake(type: 1, messageLength: 500, hello.body)
        XCTAssertEqual(problem(fragment.bytes), .fragmented)
        var sealed = RecordDump.handshake(type: 1, hello.body)
        sealed.epoch = 1
        XCTAssertEqual(problem(sealed.bytes), .notAClientHello)
        sealed = RecordDump.handshake(type: 1, hello.body)
        sealed.contentType = 23
        XCTAssertEqual(problem(sealed.bytes), .notAClientHello)
    }

    func testAnyBytes() {
        var generator = SeededGenerator(seed: 41)
        for _ in 0..<5_000 {
            let datagram = HostileDatagrams.mutation(of: [hello.datagram], &generator)
            guard let layout = try? layout(datagram) else { continue }
            XCTAssertLessThanOrEqual(layout.record.upperBound, datagram.count)
            XCTAssertLessThanOrEqual(layout.afterCookie.upperBound, layout.record.upperBound)
        }
    }
}
