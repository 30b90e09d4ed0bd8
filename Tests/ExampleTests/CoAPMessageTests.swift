import XCTest

@testable import dtls_coap_ping

final class CoAPMessageTests: XCTestCase {
    // MARK: Reading

    func testAPing() throws {
        let bytes: [UInt8] = [0x40, 0x00, 0x12, 0x34]
        XCTAssertEqual(try CoAPMessage(bytes), .ping(messageID: 0x1234))
        XCTAssertEqual(CoAPMessage.ping(messageID: 0x1234).encoded, bytes)
        XCTAssertEqual(try CoAPMessage([0x70, 0x00, 0x12, 0x34]), CoAPMessage.ping(messageID: 0x1234).rejection)
        XCTAssertEqual(CoAPMessage.ping(messageID: 0x1234).acknowledgement.encoded, [0x60, 0x00, 0x12, 0x34])
    }

    /// RFC 7252, Appendix A, Figure 17.
    func testTheExamplesOfTheRFC() throws {
        let request = try CoAPMessage([0x41, 0x01, 0x7D, 0x35, 0x20, 0xBB] + Array("temperature".utf8))
        XCTAssertEqual(request.kind, .confirmable)
        XCTAssertEqual(request.code, .get)
        XCTAssertEqual(request.messageID, 0x7D35)
        XCTAssertEqual(request.token, [0x20])
        XCTAssertEqual(
            request.options,
            [CoAPMessage.Option(number: CoAPMessage.Option.uriPath, value: Array("temperature".utf8))]
        )
        XCTAssertEqual(request.payload, [])
        let response = try CoAPMessage([0x61, 0x45, 0x7D, 0x35, 0x20, 0xFF] + Array("22.3 C".utf8))
        XCTAssertEqual(response.kind, .acknowledgement)
        XCTAssertEqual(response.code.description, "2.05 Content")
        XCTAssertTrue(response.code.isResponse)
        XCTAssertEqual(response.payload, Array("22.3 C".utf8))
    }

    func testWhatIsNoMessage() {
        let faults: [([UInt8], CoAPMessage.Fault)] = [
            ([], .tooShort), ([0x40], .tooShort), ([0x40, 0, 0], .tooShort),
            ([0x00, 0, 0, 0], .version), ([0x80, 0, 0, 0], .version), ([0xC0, 0, 0, 0], .version),
            ([0x49, 1, 0, 0] + [UInt8](repeating: 0, count: 20), .token), ([0x4F, 1, 0, 0], .token),
            ([0x42, 1, 0, 0, 7], .token),
            ([0x40, 0, 0, 0, 0xFF, 1], .emptyWithContent), ([0x41, 0, 0, 0, 7], .emptyWithContent),
            ([0x40, 1, 0, 0, 0xFF], .payload),
            // Reserved nibbles, extended numbers that are cut off, values that are.
            ([0x40, 1, 0, 0, 0xF0], .option), ([0x40, 1, 0, 0, 0x0F], .option), ([0x40, 1, 0, 0, 0xD0], .option),
            ([0x40, 1, 0, 0, 0xE0, 1], .option), ([0x40, 1, 0, 0, 0x0D], .option), ([0x40, 1, 0, 0, 0x02, 1], .option),
            // A number above 65,535.
            ([0x40, 1, 0, 0, 0xE0, 0xFF, 0xFF], .option),
            ([0x40, 1, 0, 0, 0xE0, 0xFE, 0xF2, 0x10], .option),
        ]
        for (bytes, fault) in faults {
            XCTAssertThrowsError(try CoAPMessage(bytes), "\(bytes)") {
                XCTAssertEqual($0 as? CoAPMessage.Fault, fault, "\(bytes)")
            }
        }
        XCTAssertEqual(try CoAPMessage([0x40, 1, 0, 0, 0xE0, 0xFE, 0xF2]).options.first?.number, 65_535)
    }

    /// Every prefix and every single-byte change of a message is read or refused, and what is read has its bytes.
    func testAnyBytes() throws {
        let message = CoAPMessage(
            kind: .nonConfirmable,
            code: .content,
            messageID: 0xFFFF,
            token: [1, 2, 3, 4, 5, 6, 7, 8],
            options: [
                CoAPMessage.Option(number: 1, value: []), CoAPMessage.Option(number: 14, value: [9]),
                CoAPMessage.Option(number: 300, value: [UInt8](repeating: 7, count: 300)),
            ],
            payload: [0xFF, 0]
        )
        let bytes = try XCTUnwrap(message.encoded)
        for count in 0..<bytes.count { check(Array(bytes.prefix(count))) }
        for index in bytes.indices where index < 24 || index > bytes.count - 4 {
            for value in UInt8.min...UInt8.max {
                var changed = bytes
                changed[index] = value
                check(changed)
            }
        }
        var generator = Steps(seed: 7)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0..<40, using: &generator)
            var random = (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
            if count > 0 { random[0] = 0x40 | random[0] & 0x3F }
            check(random)
        }
    }

    /// A message that was read has the same content when it is written and read again.
    private func check(_ bytes: [UInt8], file: StaticString = #filePath, line: UInt = #line) {
        guard let message = try? CoAPMessage(bytes) else { return }
        let again = message.encoded.flatMap { try? CoAPMessage($0) }
        XCTAssertEqual(again, message, "\(bytes)", file: file, line: line)
    }

    // MARK: Writing

    func testLengthsAtTheirBorders() throws {
        for length in [0, 1, 12, 13, 14, 268, 269, 270, 65_804] {
            for number: UInt16 in [0, 12, 13, 268, 269, 65_535] {
                let option = CoAPMessage.Option(number: number, value: [UInt8](repeating: 3, count: length))
                let message = CoAPMessage(kind: .confirmable, code: .get, messageID: 0, options: [option])
                let bytes = try XCTUnwrap(message.encoded)
                XCTAssertEqual(try CoAPMessage(bytes), message, "number \(number), length \(length)")
            }
        }
        let tooLong = CoAPMessage.Option(number: 11, value: [UInt8](repeating: 3, count: 65_805))
        XCTAssertNil(CoAPMessage(kind: .confirmable, code: .get, messageID: 0, options: [tooLong]).encoded)
        let token = [UInt8](repeating: 1, count: 9)
        XCTAssertNil(CoAPMessage(kind: .confirmable, code: .get, messageID: 0, token: token).encoded)
    }

    /// By number, and those of one number as they were.
    func testTheOrderOfOptions() throws {
        let options = [
            CoAPMessage.Option(number: 15, value: [1]), CoAPMessage.Option(number: 11, value: [2]),
            CoAPMessage.Option(number: 3, value: [3]), CoAPMessage.Option(number: 11, value: [1]),
        ]
        let message = CoAPMessage(kind: .confirmable, code: .get, messageID: 0, options: options)
        let read = try CoAPMessage(XCTUnwrap(message.encoded))
        XCTAssertEqual(read.options.map(\.number), [3, 11, 11, 15])
        XCTAssertEqual(read.options.map(\.value), [[3], [2], [1], [1]])
    }

    func testCodes() {
        XCTAssertEqual(CoAPMessage.Code(rawValue: 0x84).description, "4.04 Not Found")
        XCTAssertEqual(CoAPMessage.Code(rawValue: 0xBF).description, "5.31")
        for raw in UInt8.min...UInt8.max {
            XCTAssertEqual(CoAPMessage.Code(rawValue: raw).isResponse, [2, 4, 5].contains(raw >> 5))
        }
    }

    func testBlocks() throws {
        func message(_ value: [UInt8]) -> CoAPMessage {
            CoAPMessage(
                kind: .acknowledgement,
                code: .content,
                messageID: 0,
                options: [CoAPMessage.Option(number: CoAPMessage.Option.block2, value: value)]
            )
        }
        XCTAssertTrue(message([0x0E]).hasMoreBlocks)
        XCTAssertTrue(message([0x01, 0x0E]).hasMoreBlocks)
        XCTAssertFalse(message([0x06]).hasMoreBlocks)
        XCTAssertFalse(message([]).hasMoreBlocks)
    }

    // MARK: URIs

    func testURIs() throws {
        let uri = try CoAPURI("coaps://device.example:5999/a%2Fb//c?x=1&y=%25")
        XCTAssertEqual(uri.host, "device.example")
        XCTAssertEqual(uri.port, 5999)
        XCTAssertEqual(uri.origin, "coaps://device.example:5999")
        XCTAssertEqual(uri.resource.map(\.number), [11, 11, 11, 15, 15])
        XCTAssertEqual(uri.resource.map { String(decoding: $0.value, as: UTF8.self) }, ["a/b", "", "c", "x=1", "y=%"])
        for text in ["coaps://[::1]", "COAPS://[::1]:5684/", "coaps://[::1]:/"] {
            let uri = try CoAPURI(text)
            XCTAssertEqual(uri.host, "::1", text)
            XCTAssertEqual(uri.port, 5684, text)
            XCTAssertEqual(uri.resource, [], text)
        }
        XCTAssertEqual(try CoAPURI.options(path: "/"), [])
    }

    func testWhatIsNoURI() {
        let texts = [
            "", "coap://host", "coaps://", "coaps:///path", "coaps://user@host", "coaps://host:0", "coaps://host:65536",
            "coaps://host:-1", "coaps://host:x", "coaps://[::1", "coaps://[::1]5684", "coaps://[]", "coaps://host/a#b",
            "coaps://host/%", "coaps://host/%4", "coaps://host/%zz",
            "coaps://host/" + String(repeating: "a", count: 256),
        ]
        for text in texts {
            XCTAssertThrowsError(try CoAPURI(text), text) { XCTAssertTrue($0 is CoAPURI.Problem, text) }
        }
        XCTAssertThrowsError(try CoAPURI.options(path: "no/slash"))
    }
}

/// Randomness from a seed (SplitMix64).
struct Steps: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
