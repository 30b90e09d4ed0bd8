import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Records sealed and opened without OpenSSL's `SSL`, against vectors that were computed with other code.
final class DetachedRecordsTests: XCTestCase {
    /// Every vector can be made, byte for byte.
    func testSealingTheVectors() throws {
        for vector in RecordVectors.all {
            var records = try vector.records(of: vector.sender)
            let record = vector.plaintext.hexBytes.withUnsafeBytes {
                records.seal(vector.contentType, $0, numbered: vector.sequence)
            }
            XCTAssertEqual(record.map(hex), vector.record, vector.title)
            XCTAssertEqual(records.nextNumber, vector.sequence + 1, vector.title)
        }
    }

    /// What counts towards a key's limit is what is encrypted, type and padding included.
    func testPaddingCountsAsSealed() throws {
        for (padding, blocks) in [(1, 1), (16, 1), (128, 8)] {
            var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
            options.recordLayer = .detached
            options.connectionIDs = .random(length: 4)
            options.client.connectionIDs.padding = padding
            let pair = try EnginePair.connected(options)
            let before = try XCTUnwrap(pair.client.engine.detached).records.sealedBlocks
            try pair.client.send([1])
            let after = try XCTUnwrap(pair.client.engine.detached).records.sealedBlocks
            XCTAssertEqual(Int(after - before), blocks + 2, "padding \(padding)")
        }
    }

    /// Every vector is understood.
    func testOpeningTheVectors() throws {
        for vector in RecordVectors.all {
            var records = try vector.records(of: vector.sender.other)
            let opened = try XCTUnwrap(records.tryOpen(vector.record.hexBytes), vector.title)
            XCTAssertEqual(opened.contentType, vector.contentType, vector.title)
            XCTAssertEqual(hex(opened.content), vector.plaintext, vector.title)
            XCTAssertEqual(opened.number, vector.sequence, vector.title)
            XCTAssertNil(records.tryOpen(vector.record.hexBytes), "\(vector.title): a second time")
            XCTAssertEqual(records.forgeries, 0, vector.title)
        }
    }

    /// No bit of any record may be another one, the tags of empty CCM records included.
    func testAChangedBitIsNoticed() throws {
        for (index, vector) in RecordVectors.all.enumerated() {
            var records = try vector.records(of: vector.sender.other)
            let genuine = vector.record.hexBytes
            // All bits of the small ones, and of the others some in each part.
            let step = genuine.count < 100 ? 1 : 8 * genuine.count / 97
            for bit in stride(from: index % step, to: 8 * genuine.count, by: step) {
                var changed = genuine
                changed[bit / 8] ^= 1 << (bit % 8)
                XCTAssertNil(records.tryOpen(changed), "\(vector.title): bit \(bit)")
            }
            XCTAssertNotNil(records.tryOpen(genuine), "\(vector.title): forged ones stand in its way")
        }
    }

    /// A cut record is none, at whatever length.
    func testACutRecordIsNotOpened() throws {
        for vector in RecordVectors.all where vector.record.count < 300 {
            var records = try vector.records(of: vector.sender.other)
            let genuine = vector.record.hexBytes
            let idLength = vector.cid.hexBytes.count
            for count in 0..<genuine.count {
                var cut = Array(genuine.prefix(count))
                if count >= 13 + idLength {
                    let length = count - 13 - idLength
                    cut[11 + idLength] = UInt8(length >> 8)
                    cut[12 + idLength] = UInt8(truncatingIfNeeded: length)
                }
                XCTAssertNil(records.tryOpen(cut), "\(vector.title): \(count) bytes")
            }
        }
    }

    /// Where the nonce stands in the record, it is the one in the record that counts: OpenSSL takes another one for
    /// GCM.
    func testTheNonceInTheRecordCounts() throws {
        let vector = try XCTUnwrap(RecordVectors.all.first { $0.cipher == "aes128gcm" && $0.cid.isEmpty })
        var records = try vector.records(of: vector.sender.other)
        var foreign = vector.record.hexBytes
        foreign[20] ^= 1
        XCTAssertNil(records.tryOpen(foreign), "another nonce opens it")
    }

    func testKeysOfTheVectors() throws {
        for vector in RecordVectors.all {
            let keys = try vector.keys()
            var block: [UInt8] = []
            for role in [DtlsRole.client, .server] { keys.withKey(of: role) { key, _ in block += key } }
            for role in [DtlsRole.client, .server] { keys.withKey(of: role) { _, nonce in block += nonce } }
            XCTAssertEqual(hex(block), vector.keyBlock, vector.title)
            XCTAssertEqual(keys.handshake, vector.handshake, vector.title)
        }
    }

    func testExportersOfTheVectors() throws {
        for vector in RecordVectors.exports {
            let secrets = (vector.masterSecret + vector.clientRandom + vector.serverRandom).hexBytes
            let keys = try XCTUnwrap(
                RecordKeys(
                    cipher: XCTUnwrap(RecordCipher.of(.aes256GCM)),
                    hash: vector.digest == "SHA384" ? .sha384 : .sha256,
                    handshake: DtlsSecretBytes(secrets)
                )
            )
            let output = vector.output.hexBytes
            let exported = keys.export(label: vector.label, context: vector.context?.hexBytes, count: output.count)
            XCTAssertEqual(exported, DtlsSecretBytes(output), vector.label)
        }
    }

    // MARK: Numbers

    /// A number is used once, whatever asks for it.
    func testANumberIsUsedOnce() throws {
        let vector = try XCTUnwrap(RecordVectors.all.first)
        var records = try vector.records(of: .client)
        var queue = DatagramQueue()
        for _ in 0..<3 { _ = [1].withUnsafeBytes { records.seal(23, $0, into: &queue) } }
        XCTAssertEqual(records.nextNumber, 3)
        for number in UInt64(0)..<3 {
            XCTAssertNil([1].withUnsafeBytes { records.seal(23, $0, numbered: number) }, "number \(number) again")
        }
        XCTAssertNotNil([1].withUnsafeBytes { records.seal(22, $0, numbered: 7) })
        _ = [1].withUnsafeBytes { records.seal(21, $0, into: &queue) }
        var numbers: [UInt64] = []
        queue.drain { numbers.append($0.uint48(at: 5)) }
        XCTAssertEqual(numbers, [0, 1, 2, 8])
        records.skip(to: 4)
        XCTAssertEqual(records.nextNumber, 9, "numbers go back")
    }

    /// The last numbers are for alerts, and after them there are none.
    func testNumbersEnd() throws {
        for vector in [RecordVectors.all.first { $0.cipher == "chacha20poly1305" }, RecordVectors.all.first] {
            var records = try XCTUnwrap(vector).records(of: .client)
            records.skip(to: 1 << 48 - 20)
            var queue = DatagramQueue()
            var sealed = 0
            while case .sealed = [1].withUnsafeBytes({ records.seal(23, $0, into: &queue) }) { sealed += 1 }
            XCTAssertEqual(sealed, 4)
            XCTAssertFalse(records.mayStillSeal(1))
            for _ in 0..<16 {
                guard case .sealed = [1, 0].withUnsafeBytes({ records.seal(21, $0, into: &queue) }) else {
                    return XCTFail("no number is left for an alert")
                }
            }
            guard case .exhausted = [1, 0].withUnsafeBytes({ records.seal(21, $0, into: &queue) }) else {
                return XCTFail("a number beyond 48 bits")
            }
            XCTAssertEqual(records.nextNumber, 1 << 48)
        }
    }

    /// The blocks that a key may seal are counted (RFC 9147 §4.5.3).
    func testAKeyIsUsedUp() throws {
        for name in ["aes128gcm", "aes128ccm8"] {
            let vector = try XCTUnwrap(RecordVectors.all.first { $0.cipher == name })
            let limit = try XCTUnwrap(vector.keys().cipher.algorithm.sealedBlockLimit)
            XCTAssertEqual(Double(limit), name == "aes128gcm" ? 1_024 * exp2(24.5) : 1_024 * exp2(23), accuracy: 1_024)
            var records = try vector.records(of: .client)
            records.countAsSealed(blocks: limit - 48 - 3)
            var queue = DatagramQueue()
            guard case .sealed = [1].withUnsafeBytes({ records.seal(23, $0, into: &queue) }),
                case .exhausted = [1].withUnsafeBytes({ records.seal(23, $0, into: &queue) }),
                case .sealed = [1, 0].withUnsafeBytes({ records.seal(21, $0, into: &queue) })
            else { return XCTFail("\(name) goes on or ends too early") }
        }
    }

    func testForgeriesAreCounted() throws {
        let vector = try XCTUnwrap(RecordVectors.all.first { $0.cipher == "aes128ccm8" })
        var records = try vector.records(of: vector.sender.other)
        var forged = vector.record.hexBytes
        forged[forged.count - 1] ^= 1
        for _ in 0..<5 { _ = records.tryOpen(forged) }
        // Blocks, and two for the tag.
        let blocks = UInt64((forged.count - 13 + 15) / 16 + 2)
        XCTAssertEqual(records.forgeries, 5 * blocks)
        XCTAssertFalse(records.hasSeenTooManyForgeries)
        records.countAsForged(12_148_002_000 - 5 * blocks)
        XCTAssertTrue(records.hasSeenTooManyForgeries)
    }

    /// What fits into a datagram fills it, and with padding to a multiple nothing is larger.
    func testMaximumContent() throws {
        for vector in RecordVectors.all where vector.contentType == 23 {
            for padding in [1, 16, 128] {
                let ids = ConnectionIDPair(own: [], peer: vector.cid.hexBytes, padding: padding)
                var records = DetachedRecords(keys: try vector.keys(), role: .client, connectionIDs: ids)
                for size in [256, 1_200, 65_507] {
                    let most = records.maximumContent(ofDatagram: size)
                    var queue = DatagramQueue()
                    let content = [UInt8](repeating: 1, count: most)
                    _ = content.withUnsafeBytes { records.seal(23, $0, into: &queue) }
                    XCTAssertLessThanOrEqual(queue.byteCount, size, vector.title)
                    guard most < 16_384 else { continue }
                    _ = (content + [1]).withUnsafeBytes { records.seal(23, $0, into: &queue) }
                    XCTAssertGreaterThan(queue.lastCount, size, "\(vector.title): more would fit")
                }
            }
        }
    }
}

// MARK: - Vectors

private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

extension String {
    fileprivate var hexBytes: [UInt8] {
        let digits = Array(utf8)
        return stride(from: 0, to: digits.count - 1, by: 2).map {
            UInt8(String(decoding: digits[$0...($0 + 1)], as: UTF8.self), radix: 16) ?? 0
        }
    }
}

extension RecordVector {
    fileprivate var title: String { "\(cipher) \(name)" }
    fileprivate var sender: DtlsRole { fromClient ? .client : .server }

    fileprivate var handshake: DtlsSecretBytes {
        DtlsSecretBytes((masterSecret + clientRandom + serverRandom).hexBytes)
    }

    fileprivate func keys() throws -> RecordKeys {
        let algorithm: RecordCipher.Algorithm =
            switch cipher {
            case "aes128gcm": .aes128GCM
            case "aes256gcm": .aes256GCM
            case "aes128ccm": .aes128CCM
            case "aes256ccm": .aes256CCM
            case "aes128ccm8": .aes128CCM8
            case "aes256ccm8": .aes256CCM8
            default: .chaCha20Poly1305
            }
        return try XCTUnwrap(
            RecordKeys(
                cipher: XCTUnwrap(RecordCipher.of(algorithm)),
                hash: algorithm == .aes256GCM ? .sha384 : .sha256,
                handshake: handshake
            )
        )
    }

    fileprivate func records(of role: DtlsRole) throws -> DetachedRecords {
        // Filled up to as many bytes as the vector has.
        let filled = plaintext.hexBytes.count + 1 + padding
        let pair =
            role == sender
            ? ConnectionIDPair(own: [], peer: cid.hexBytes, padding: filled)
            : ConnectionIDPair(own: cid.hexBytes, peer: [])
        return DetachedRecords(keys: try keys(), role: role, connectionIDs: pair)
    }
}
