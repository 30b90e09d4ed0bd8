import XCTest

@testable import DTLSCore

/// HMAC by the vectors of RFC 4231. The pseudorandom function has its vectors among those of the records.
final class KeyedHashTests: XCTestCase {
    func testSHA256() throws {
        let hash = try XCTUnwrap(KeyedHash.sha256)
        // §4.3
        XCTAssertEqual(
            authenticate(hash, Array("what do ya want for nothing?".utf8), key: Array("Jefe".utf8)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        )
        // §4.4
        XCTAssertEqual(
            authenticate(hash, [UInt8](repeating: 0xDD, count: 50), key: [UInt8](repeating: 0xAA, count: 20)),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"
        )
    }

    func testSHA384() throws {
        let hash = try XCTUnwrap(KeyedHash.sha384)
        // §4.3
        XCTAssertEqual(
            authenticate(hash, Array("what do ya want for nothing?".utf8), key: Array("Jefe".utf8)),
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"
        )
    }

    /// A context that was used holds nothing of what it was used for.
    func testContextsAreUsedAgain() throws {
        let hash = try XCTUnwrap(KeyedHash.sha256)
        let first = authenticate(hash, [1, 2, 3], key: [4])
        for byte in UInt8.min...UInt8.max {
            XCTAssertNotEqual(authenticate(hash, [byte], key: [4]), first)
        }
        XCTAssertEqual(authenticate(hash, [1, 2, 3], key: [4]), first)
    }

    func testAnEmptyMessage() throws {
        let hash = try XCTUnwrap(KeyedHash.sha256)
        XCTAssertEqual(
            authenticate(hash, [], key: []),
            "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"
        )
    }

    /// Longer keys would have to be hashed first (RFC 2104 §2); nobody has any.
    func testKeysLongerThanABlockAreRefused() throws {
        let hash = try XCTUnwrap(KeyedHash.sha256)
        XCTAssertNotNil(authenticate(hash, [1], key: [UInt8](repeating: 1, count: 64)))
        XCTAssertNil(authenticate(hash, [1], key: [UInt8](repeating: 1, count: 65)))
    }

    private func authenticate(_ hash: KeyedHash, _ message: [UInt8], key: [UInt8]) -> String? {
        message.withUnsafeBytes { message in key.withUnsafeBytes { hash.authenticate(message, key: $0) } }?
            .map { byte in [byte >> 4, byte & 15].map { String($0, radix: 16) }.joined() }
            .joined()
    }
}
