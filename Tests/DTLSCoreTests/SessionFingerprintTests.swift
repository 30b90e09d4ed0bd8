import XCTest

@testable import DTLSCore

/// What a client's session is good for: nothing but the same demands, name and key.
final class SessionFingerprintTests: XCTestCase {
    private let demands = [UInt8](repeating: 5, count: 32)

    private func fingerprint(_ name: String?, _ identity: [UInt8], _ key: [UInt8]) throws -> [UInt8] {
        let key = try DtlsPreSharedKey(identity: identity, key: DtlsSecretBytes(key))
        return SessionFingerprint.ofClient(demands, serverName: name, preSharedKey: key)
    }

    func testAllThatMattersTellsThemApart() throws {
        let long = [UInt8](repeating: 1, count: 512)
        var fingerprints = try [
            fingerprint(nil, [], [1]), fingerprint("", [], [1]), fingerprint(nil, [], [1, 0]),
            fingerprint("a", [], [1]), fingerprint(nil, [97], [1]), fingerprint("a", [98], [1]),
            fingerprint("ab", [], [1]), fingerprint(nil, [1], [2]), fingerprint(nil, [], long),
            fingerprint(nil, [], long.dropLast() + [2]), fingerprint(nil, [], Array(long[..<64])),
            fingerprint(nil, [], Array(long[..<65])),
        ]
        fingerprints.append(SessionFingerprint.ofClient(demands, serverName: nil, preSharedKey: nil))
        fingerprints.append(SessionFingerprint.ofClient(demands, serverName: "", preSharedKey: nil))
        fingerprints.append(
            SessionFingerprint.ofClient(demands.map { $0 + 1 }, serverName: nil, preSharedKey: nil)
        )
        XCTAssertEqual(Set(fingerprints).count, fingerprints.count)
        XCTAssertTrue(fingerprints.allSatisfy { $0.count == 32 })
    }

    func testTheSameIsTheSame() throws {
        let key = [UInt8](repeating: 9, count: 100)
        XCTAssertEqual(try fingerprint("name", [1], key), try fingerprint("name", [1], key))
    }
}
