import DTLSPrimitives
import DTLSTestSupport
import Foundation
import XCTest

@testable import DTLSCore

/// Contexts that stay keyed, beside ones that are keyed for each message.
final class CipherSlotTests: XCTestCase {
    override func setUp() {
        super.setUp()
        emptySlots()
    }

    // Twice: the first time everything that was used since the last is left.
    private func emptySlots() {
        _ = DtlsEngineContext.releaseIdleCiphers()
        XCTAssertFalse(DtlsEngineContext.releaseIdleCiphers())
    }

    /// A key and messages under it.
    private struct User {
        let cipher: RecordCipher
        let place: RecordCipher.Place
        /// The first and the second.
        let keys: [[UInt8]]

        init(_ algorithm: RecordCipher.Algorithm, _ place: RecordCipher.Place? = nil, seed: UInt64) throws {
            cipher = try XCTUnwrap(RecordCipher.of(algorithm))
            self.place = place ?? cipher.makePlace()
            var random = SeededGenerator(seed: seed)
            keys = (0..<2).map { _ in (0..<algorithm.keyLength).map { _ in UInt8.random(in: 0...255, using: &random) } }
        }

        func nonce(_ number: Int) -> [UInt8] { (0..<12).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) } }

        /// - Parameter kept: Whether the context may stay keyed.
        func seal(_ text: [UInt8], _ number: Int, second: Bool = false, kept: Bool = true) -> [UInt8]? {
            withKey(second: second, kept: kept) { cipher.seal(text, $0, nonce(number)) }
        }

        func open(_ message: [UInt8], _ number: Int, second: Bool = false, kept: Bool = true) -> [UInt8]? {
            withKey(second: second, kept: kept) { cipher.open(message, $0, nonce(number)) }
        }

        private func withKey(second: Bool, kept: Bool, _ body: (RecordCipher.Key) -> [UInt8]?) -> [UInt8]? {
            keys[second ? 1 : 0].withUnsafeBytes { body(.init($0, in: kept ? place : nil, second: second)) }
        }

        func isKeyed(seals: Bool, second: Bool = false) -> Bool {
            (seals ? place.slot.sealingKey : place.slot.openingKey) == place.keys + (second ? 1 : 0)
        }
    }

    private func scope(_ body: () throws -> Void) throws { try body() }

    private static func text(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: number % 70)
    }

    /// Whether a context is found keyed or not, the bytes are the same, whatever came before: other messages, forged
    /// ones, the other direction, another key in the same slot.
    func testKeptKeysMakeNoDifference() throws {
        for algorithm in RecordCipher.Algorithm.allCases {
            let user = try User(algorithm, seed: 1)
            let other = try User(algorithm, user.cipher.makePlace(sharedWith: user.place), seed: 2)
            var random = SeededGenerator(seed: 3)
            var hits = 0
            for number in 0..<600 {
                let (user, foreign) = number % 7 < 5 ? (user, other) : (other, user)
                let second = Int.random(in: 0..<5, using: &random) == 0
                let text = Self.text(number)
                if user.isKeyed(seals: true, second: second) { hits += 1 }
                let sealed = try XCTUnwrap(user.seal(text, number, second: second))
                XCTAssertTrue(user.isKeyed(seals: true, second: second))
                XCTAssertFalse(foreign.isKeyed(seals: true, second: false))
                XCTAssertEqual(sealed, user.seal(text, number, second: second, kept: false), "\(algorithm)")
                var forged = sealed
                forged[Int.random(in: 0..<forged.count, using: &random)] ^= 1
                XCTAssertNil(user.open(forged, number, second: second))
                XCTAssertTrue(user.isKeyed(seals: false, second: second))
                XCTAssertNil(user.open(sealed, number + 1, second: second), "another nonce")
                XCTAssertNil(user.open(sealed, number, second: !second), "another key")
                XCTAssertEqual(user.open(sealed, number, second: second), text)
                XCTAssertEqual(user.open(sealed, number, second: second, kept: false), text)
                XCTAssertNil(foreign.open(sealed, number, second: second))
            }
            XCTAssertGreaterThan(hits, 100)
        }
    }

    /// Keys go when they are forgotten, and only theirs.
    func testForgetting() throws {
        let user = try User(.aes128GCM, seed: 1)
        let other = try User(.aes128GCM, user.cipher.makePlace(sharedWith: user.place), seed: 2)
        _ = user.seal([1], 1)
        _ = user.open([UInt8](repeating: 0, count: 17), 1, second: true)
        XCTAssertTrue(user.isKeyed(seals: true) && user.isKeyed(seals: false, second: true))
        user.cipher.forget(other.place)
        XCTAssertTrue(user.isKeyed(seals: true) && user.isKeyed(seals: false, second: true))
        _ = other.seal([1], 1)
        user.cipher.forget(user.place)
        XCTAssertTrue(other.isKeyed(seals: true), "another one's")
        XCTAssertFalse(user.isKeyed(seals: false, second: true))
        user.cipher.forget(other.place)
        XCTAssertEqual(CipherSlot.contexts, 0)
    }

    /// What has been used since the last time stays, the rest goes.
    func testIdleContextsAreFreed() throws {
        let users = try [RecordCipher.Algorithm.aes128GCM, .chaCha20Poly1305].map { try User($0, seed: 1) }
        for user in users { _ = user.seal([1], 1) }
        _ = users[0].open([UInt8](repeating: 0, count: 17), 1)
        XCTAssertEqual(CipherSlot.contexts, 3)
        XCTAssertTrue(DtlsEngineContext.releaseIdleCiphers())
        _ = users[1].seal([1], 2)
        XCTAssertTrue(DtlsEngineContext.releaseIdleCiphers())
        XCTAssertFalse(users[0].isKeyed(seals: true) || users[0].isKeyed(seals: false))
        XCTAssertTrue(users[1].isKeyed(seals: true))
        XCTAssertFalse(DtlsEngineContext.releaseIdleCiphers())
        XCTAssertEqual(CipherSlot.contexts, 0)
        for user in users { XCTAssertEqual(user.seal([1], 3), user.seal([1], 3, kept: false)) }
    }

    /// The keys of an association go with it, in each of its lives.
    func testAssociationsLeaveNoKeys() throws {
        for ids in [DtlsConnectionIDs.off, .random(length: 4)] {
            var options = try PairOptions.preSharedKey("PSK-AES128-GCM-SHA256")
            options.connectionIDs = ids
            try scope {
                let pair = try EnginePair.connected(options)
                try pair.assertEchoes()
                XCTAssertGreaterThanOrEqual(CipherSlot.contexts, 4)
            }
            XCTAssertEqual(CipherSlot.contexts, 0)
            // Ended in its handshake, after records were opened.
            try scope {
                let pair = try EnginePair(options)
                pair.start()
                while !pair.client.engine.isOpen, try pair.step() {}
                pair.client.close()
                try pair.serverPeer().close()
            }
            XCTAssertEqual(CipherSlot.contexts, 0)
        }
    }

    /// There is a bound, and each association has its own slot below. Those beyond share a few.
    func testSlotsAreShared() throws {
        var slots = CipherSlots()
        let first = (0..<CipherSlots.maximumCount).map { _ in slots.assign() }
        XCTAssertEqual(Set(first.map { ObjectIdentifier($0) }).count, CipherSlots.maximumCount)
        for slot in first.prefix(CipherSlots.sharedCount) { XCTAssertTrue(slots.assign() === slot) }
        XCTAssertTrue(slots.assign() === first[0])
        XCTAssertEqual(slots.all.count, CipherSlots.maximumCount)
    }

    /// However many there were before: those that are there do not share while there are enough.
    func testSlotsAreGivenBack() throws {
        var slots = CipherSlots()
        var kept: [CipherSlot] = []
        for round in 0..<(3 * CipherSlots.maximumCount) {
            let slot = slots.assign()
            if round % 20 == 0 { kept.append(slot) } else { slots.giveBack(slot) }
        }
        XCTAssertEqual(Set(kept.map { ObjectIdentifier($0) }).count, kept.count)
        XCTAssertLessThanOrEqual(slots.all.count, kept.count + 1)
        // One that several have is free when the last of them has gone.
        while slots.all.count < CipherSlots.maximumCount { _ = slots.assign() }
        let shared = slots.assign()
        slots.giveBack(shared)
        XCTAssertFalse(slots.assign() === shared)
        slots.giveBack(shared)
        XCTAssertTrue(slots.assign() === shared)
    }

    /// A slot that somebody uses is nothing to wait for.
    func testATakenSlotIsNotWaitedFor() throws {
        let user = try User(.aes128GCM, seed: 1)
        let expected = user.seal([1, 2, 3], 1)
        XCTAssertTrue(user.place.slot.take())
        XCTAssertEqual(user.seal([1, 2, 3], 1), expected)
        XCTAssertTrue(DtlsEngineContext.releaseIdleCiphers(), "freed while it is used")
        XCTAssertTrue(DtlsEngineContext.releaseIdleCiphers(), "freed while it is used")
        user.place.slot.giveBack()
        XCTAssertTrue(user.isKeyed(seals: true))
    }

    /// Threads whose associations share a slot, beside one that frees and forgets.
    func testThreadsSideBySide() throws {
        let threads = 4
        let rounds = 1_500
        let cipher = try XCTUnwrap(RecordCipher.of(.aes128GCM))
        let place = cipher.makePlace()
        let users = try (0..<threads).map { index in
            try User(.aes128GCM, index == 0 ? place : cipher.makePlace(sharedWith: place), seed: UInt64(index))
        }
        let wrong = Lock(0)
        DispatchQueue.concurrentPerform(iterations: threads + 1) { index in
            guard index < threads else {
                for round in 0..<rounds {
                    if round.isMultiple(of: 3) { _ = DtlsEngineContext.releaseIdleCiphers() }
                    users[0].cipher.forget(users[round % threads].place)
                }
                return
            }
            let user = users[index]
            for number in 0..<rounds {
                let text = [UInt8(index)] + Self.text(number)
                let sealed = user.seal(text, number)
                let opened = sealed.flatMap { user.open($0, number) }
                let same = sealed == user.seal(text, number, kept: false)
                if opened != text || !same { wrong.withLock { $0 += 1 } }
            }
        }
        XCTAssertEqual(wrong.withLock { $0 }, 0)
        for user in users { user.cipher.forget(user.place) }
        XCTAssertEqual(CipherSlot.contexts, 0)
    }
}
