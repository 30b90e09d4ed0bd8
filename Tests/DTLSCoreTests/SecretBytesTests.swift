import DTLSTestSupport
import XCTest

@testable import DTLSCore

final class SecretBytesTests: XCTestCase {
    private let marker = "sEcReT-mArKeR"

    /// Every way in which a value is turned into text.
    private func texts(of value: Any) -> [String] {
        var dumped = ""
        dump(value, to: &dumped)
        return ["\(value)", String(reflecting: value), String(describing: value), dumped]
            + Mirror(reflecting: value).children.flatMap { texts(of: $0.value) }
    }

    func testNoTextShowsTheBytes() throws {
        let secret = DtlsSecretBytes(utf8: marker)
        let key = try DtlsPreSharedKey(identity: [1], key: secret)
        let values: [Any] = [secret, key, [secret], ["a": secret], Optional(secret) as Any, (secret, secret)]
        let numbers = Array(marker.utf8).map(String.init).joined(separator: ", ")
        for value in values {
            for text in texts(of: value) {
                XCTAssertFalse(text.contains(marker), text)
                XCTAssertFalse(text.contains(numbers), text)
                XCTAssertFalse(text.contains("- \(Array(marker.utf8)[0])\n"), text)
            }
        }
        XCTAssertEqual(secret.description, "<13 secret bytes>")
        XCTAssertEqual(Mirror(reflecting: secret).children.count, 0)
    }

    func testEquality() {
        let one = DtlsSecretBytes([1, 2, 3])
        XCTAssertEqual(one, DtlsSecretBytes([1, 2, 3]))
        XCTAssertEqual(one, one)
        for other in [[], [1, 2], [1, 2, 4], [0, 2, 3], [1, 2, 3, 4]] as [[UInt8]] {
            XCTAssertNotEqual(one, DtlsSecretBytes(other))
        }
        XCTAssertEqual(DtlsSecretBytes([]), DtlsSecretBytes([]))
        XCTAssertEqual(one.hashValue, DtlsSecretBytes([1, 2, 3]).hashValue)
    }

    func testContents() {
        XCTAssertEqual(DtlsSecretBytes([]).count, 0)
        XCTAssertEqual(DtlsSecretBytes([]).withUnsafeBytes { Array($0) }, [])
        XCTAssertEqual(DtlsSecretBytes(utf8: "é").withUnsafeBytes { Array($0) }, [0xC3, 0xA9])
        let large = [UInt8](repeating: 7, count: 100_000)
        XCTAssertTrue(DtlsSecretBytes(large[...]).withUnsafeBytes { Array($0) } == large)
        let copy = DtlsSecretBytes([1, 2])
        let other = copy
        XCTAssertEqual(other.withUnsafeBytes { Array($0) }, [1, 2])
    }

    /// A failed handshake's error, the statistics and the events speak of no key.
    func testFault26NoErrorShowsAKey() throws {
        var options = try PairOptions.preSharedKey()
        options.clientKey = try DtlsPreSharedKey(identity: TestKey.identity, key: Array(marker.utf8))
        options.retransmission = .quick
        let pair = try EnginePair(options)
        pair.start()
        XCTAssertTrue(try pair.run { !pair.client.ends.isEmpty && pair.server?.ends.isEmpty == false })
        for side in [pair.client, try pair.serverPeer()] {
            for event in side.events {
                for text in texts(of: event) { XCTAssertFalse(text.contains(marker), text) }
            }
        }
        XCTAssertFalse(texts(of: options).contains { $0.contains(marker) })
    }
}
