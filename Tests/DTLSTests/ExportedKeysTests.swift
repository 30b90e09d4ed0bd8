import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Keys that leave an association: SRTP's, and those of the exporter.
final class ExportedKeysTests: XCTestCase {
    private static func loopback(
        client: [DtlsSRTPProfile] = [],
        server: [DtlsSRTPProfile] = []
    ) async throws -> Loopback {
        try await Loopback(
            .trusting(Credentials.localhost(), .make { $0.srtpProfiles = client }),
            .presenting(Credentials.localhost(), .make { $0.srtpProfiles = server })
        )
    }

    // MARK: SRTP

    func testEveryProfileGivesTheSameKeysCrosswise() async throws {
        try await withDeadline {
            let lengths: [(DtlsSRTPProfile, Int, Int)] = [
                (.aes128CMSHA1_80, 16, 14), (.aes128CMSHA1_32, 16, 14), (.aeadAES128GCM, 16, 12),
                (.aeadAES256GCM, 32, 12),
            ]
            XCTAssertEqual(Set(lengths.map(\.0)), Set(DtlsSRTPProfile.all))
            for (profile, keyLength, saltLength) in lengths {
                let loopback = try await Self.loopback(client: DtlsSRTPProfile.all, server: [profile])
                XCTAssertEqual(loopback.near.negotiated.srtpProfile, profile)
                XCTAssertEqual(loopback.far.negotiated.srtpProfile, profile)
                let near = try loopback.near.srtpKeys()
                let far = try loopback.far.srtpKeys()
                XCTAssertEqual(near.profile, profile)
                XCTAssertEqual(near.sendingKey, far.receivingKey)
                XCTAssertEqual(near.sendingSalt, far.receivingSalt)
                XCTAssertEqual(near.receivingKey, far.sendingKey)
                XCTAssertEqual(near.receivingSalt, far.sendingSalt)
                XCTAssertNotEqual(near.sendingKey, near.receivingKey)
                XCTAssertNotEqual(near.sendingSalt, near.receivingSalt)
                for key in [near.sendingKey, near.receivingKey] { XCTAssertEqual(key.count, keyLength) }
                for salt in [near.sendingSalt, near.receivingSalt] { XCTAssertEqual(salt.count, saltLength) }

                // RFC 5764 §4.2: client key, server key, client salt, server salt.
                let block = try loopback.far.exportKeyingMaterial(
                    label: "EXTRACTOR-dtls_srtp",
                    count: 2 * (keyLength + saltLength)
                ).copy
                let parts = near.sendingKey.copy + near.receivingKey.copy
                XCTAssertEqual(block, parts + near.sendingSalt.copy + near.receivingSalt.copy)
                await loopback.close()
            }
        }
    }

    func testWithoutAProfileThereAreNoKeys() async throws {
        try await withDeadline {
            let pairs: [([DtlsSRTPProfile], [DtlsSRTPProfile])] = [
                ([], []), ([.aeadAES128GCM], []), ([], [.aeadAES128GCM]), ([.aeadAES128GCM], [.aeadAES256GCM]),
            ]
            for (client, server) in pairs {
                let loopback = try await Self.loopback(client: client, server: server)
                for connection in [loopback.near, loopback.far] {
                    XCTAssertNil(connection.negotiated.srtpProfile)
                    let error = await failure { try connection.srtpKeys() }
                    XCTAssertEqual(error?.code, .unsupported)
                }
                try await loopback.near.expectArrival(at: loopback.far)
                await loopback.close()
            }
        }
    }

    // MARK: The exporter

    func testBothSidesExportTheSame() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            let other = try await Loopback()
            var seen = Set<[UInt8]>()
            let cases: [(String, [UInt8]?)] = [
                ("EXPERIMENTAL one", nil), ("EXPERIMENTAL two", nil), ("EXPERIMENTAL one", []),
                ("EXPERIMENTAL one", [1]), ("EXPERIMENTAL one", [1, 2]), ("EXPERIMENTAL two", [1]),
            ]
            for (label, context) in cases {
                let near = try loopback.near.exportKeyingMaterial(label: label, context: context, count: 32)
                let far = try loopback.far.exportKeyingMaterial(label: label, context: context, count: 32)
                XCTAssertEqual(near, far, label)
                XCTAssertEqual(near.count, 32)
                XCTAssertTrue(seen.insert(near.copy).inserted, "\(label), \(String(describing: context))")
                let foreign = try other.near.exportKeyingMaterial(label: label, context: context, count: 32)
                XCTAssertNotEqual(near, foreign, "another association's keys are others")
            }
            await loopback.close()
            await other.close()
        }
    }

    func testCountsAndLabels() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            for count in [1, 255, 16_384] {
                let secret = try loopback.near.exportKeyingMaterial(label: "EXPERIMENTAL", count: count)
                XCTAssertEqual(secret.count, count)
                XCTAssertEqual(secret, try loopback.far.exportKeyingMaterial(label: "EXPERIMENTAL", count: count))
            }
            for count in [Int.min, -1, 0, 16_385, .max] {
                let error = await failure {
                    try loopback.near.exportKeyingMaterial(label: "EXPERIMENTAL", count: count)
                }
                XCTAssertEqual(error?.code, .invalidConfiguration, "\(count)")
            }
            for label in ["client finished", "server finished", "master secret", "key expansion"] {
                let error = await failure { try loopback.near.exportKeyingMaterial(label: label, count: 16) }
                XCTAssertEqual(error?.code, .invalidConfiguration, label)
            }
            let long = [UInt8](repeating: 0, count: 65_536)
            let error = await failure {
                try loopback.near.exportKeyingMaterial(label: "EXPERIMENTAL", context: long, count: 16)
            }
            XCTAssertEqual(error?.code, .invalidConfiguration)
            try await loopback.near.expectArrival(at: loopback.far)
            await loopback.close()
            let closed = await failure {
                try loopback.near.exportKeyingMaterial(label: "EXPERIMENTAL", count: 16)
            }
            XCTAssertEqual(closed?.code, .connectionClosed)
        }
    }
}
