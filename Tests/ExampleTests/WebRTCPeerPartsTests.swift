import DTLSCore
import XCTest

@testable import dtls_webrtc_peer

final class WebRTCPeerPartsTests: XCTestCase {
    /// RFC 7983 §7, Figure 3.
    func testEveryFirstByte() {
        for byte in UInt8.min...UInt8.max {
            let expected: PacketKind =
                switch byte {
                case 0, 1, 2, 3: .stun
                case 16, 17, 18, 19: .zrtp
                case 20..<64: .dtls
                case 64..<80: .turnChannel
                case 128..<192: .rtp
                default: .unknown
                }
            XCTAssertEqual(PacketKind([byte, 0]), expected, "\(byte)")
        }
        XCTAssertEqual(PacketKind([]), .unknown)
    }

    // MARK: Addresses

    func testAddresses() throws {
        for text in ["127.0.0.1:0", "192.0.2.7:65535", "[::1]:5000", "[2001:db8::5]:1"] {
            XCTAssertEqual(try XCTUnwrap(SocketAddress(text)).description, text)
        }
        XCTAssertEqual(SocketAddress("192.0.2.7:258")?.bytes, [192, 0, 2, 7, 1, 2])
        XCTAssertNotEqual(SocketAddress("192.0.2.7:1"), SocketAddress("192.0.2.7:2"))
        for text in [
            "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "localhost:1", "::1:1", "[::1]", "[127.0.0.1]:1",
            "[]:1",
        ] {
            XCTAssertNil(SocketAddress(text), text)
        }
    }

    // MARK: Descriptions

    private static let digits = (0..<32).map { _ in "AB" }.joined(separator: ":")

    private func description(_ lines: [String]) throws -> (SessionDescription, rest: Int) {
        var rest = lines[...]
        let description = try SessionDescription { rest.popFirst() }
        return (description, rest.count)
    }

    func testADescriptionIsReadAsItIsWritten() throws {
        let fingerprint = try XCTUnwrap(DtlsFingerprint(Self.digits))
        let address = try XCTUnwrap(SocketAddress("[::1]:5000"))
        let own = SessionDescription(fingerprint: fingerprint, setup: .passive, candidate: address)
        let expected = [
            "a=candidate:1 1 UDP 2130706431 ::1 5000 typ host", "a=fingerprint:sha-256 \(Self.digits)",
            "a=setup:passive",
        ]
        XCTAssertEqual(own.lines, expected)
        // It knows by itself when all is there.
        let (read, rest) = try description(expected + ["more"])
        XCTAssertEqual(read, own)
        XCTAssertEqual(rest, 1)
    }

    /// As a browser writes it.
    func testALongerDescription() throws {
        let (read, rest) = try description([
            "v=0\r", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r",
            "a=candidate:1 2 UDP 2130706430 192.0.2.1 1 typ host\r",
            "a=candidate:1 1 TCP 2105458943 192.0.2.1 9 typ host\r",
            "a=candidate:2 1 udp 2113937151 7ba5.local 5000 typ host\r",
            "a=candidate:3 1 udp 1677729535 192.0.2.1 5000 typ srflx raddr 0.0.0.0 rport 0\r",
            "a=candidate:4 1 udp 1677729535 192.0.2.2 5000 typ host\r", "a=fingerprint:sha-1 00:11\r",
            "a=fingerprint:SHA-256 \(Self.digits.lowercased())\r", "a=sctp-port:5000\r", "\r", "more",
        ])
        XCTAssertEqual(read.candidate, SocketAddress("192.0.2.1:5000"))
        XCTAssertEqual(read.fingerprint, DtlsFingerprint(Self.digits))
        XCTAssertNil(read.setup)
        XCTAssertEqual(rest, 1)
        XCTAssertNil(try description(["a=setup:actpass"]).0.setup)
    }

    func testBrokenDescriptions() {
        for line in ["a=setup:holdconn", "a=setup:", "a=fingerprint:sha-256", "a=fingerprint:sha-256 AB:CD"] {
            XCTAssertThrowsError(try description([line]), line) { XCTAssertTrue($0 is PeerError, line) }
        }
    }

    func testTextOfThePeerIsSafeToPrint() {
        XCTAssertEqual(printable("it's ~ \"one\"\n\u{1B}[2Jü"), "it's ~ \"one\"\\n\\u{1B}[2J\\u{00FC}")
    }
}
