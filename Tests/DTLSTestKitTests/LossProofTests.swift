import DTLSCore
import DTLSTestKit
import DTLSTestSupport
import Foundation
import HeapModule
import XCTest

/// Handshakes through loss, duplication and reordering in both directions, cookie exchange included, many at once.
///
/// By default a few, of which all must complete. With `DTLS_PROOF=full` 2,000 of each kind at each rate, in real time,
/// of which nine in ten must also be quick: what takes time there is waiting for answers that do not come.
final class LossProofTests: XCTestCase {
    private static let isFull = ProcessInfo.processInfo.environment["DTLS_PROOF"] == "full"

    func testAtTenPercent() throws { try prove(loss: 0.1, nineInTenWithin: 1) }
    func testAtTwentyPercent() throws { try prove(loss: 0.2, nineInTenWithin: 2) }
    func testAtThirtyPercent() throws { try prove(loss: 0.3, nineInTenWithin: 4) }

    /// A handshake under way, or one that will begin.
    private struct Run {
        let kind: String
        let make: () throws -> DtlsEnginePair
        var begins: ContinuousClock.Instant
        var pair: DtlsEnginePair?
        var seconds: Double?
        var failure: String?
    }

    private func prove(loss: Double, nineInTenWithin goal: Double) throws {
        let count = Self.isFull ? 2_000 : 25
        var conditions = DtlsLinkConditions(loss: loss, duplication: 0.05, reordering: 0.2)
        conditions.delay = .milliseconds(5) ... .milliseconds(25)
        var kinds: [(String, PairOptions)] = [
            ("pre-shared key", try .preSharedKey()), ("certificate", try .certificates()),
        ]
        var mutual = try PairOptions.certificates()
        mutual.client.identity = try TestIdentity.client
        mutual.server.trust = try TestIdentity.trust
        mutual.clientCertificates = .required
        kinds.append(("certificates on both sides, MTU 548", mutual))
        kinds[2].1.mtu = 548

        // Spread out, so that computing takes no more than a part of the time.
        let spacing = Duration.milliseconds(Self.isFull ? 16 : 4)
        var begins = ContinuousClock.now
        var runs: [Run] = []
        let makers = try kinds.map { (name: $0.0, make: try Self.maker($0.1, conditions)) }
        for index in 0..<count {
            for (offset, kind) in makers.enumerated() {
                let seed = UInt64(index * 16 + offset) &+ UInt64(loss * 100) << 32
                runs.append(Run(kind: kind.name, make: { try kind.make(seed) }, begins: begins))
                begins += spacing
            }
        }
        let before = (ContinuousClock.now, Self.processorSeconds())
        try finish(&runs)
        let load = (Self.processorSeconds() - before.1) / (ContinuousClock.now - before.0).inSeconds

        for kind in makers {
            let all = runs.filter { $0.kind == kind.name }
            let times = all.compactMap(\.seconds).sorted()
            let failures = all.compactMap(\.failure)
            XCTAssertEqual(times.count, count, "\(failures.prefix(3)) at a loss of \(loss), \(kind.name)")
            guard !times.isEmpty else { continue }
            let figures = [50, 90, 99].map { String(format: "%.2f", times[times.count * $0 / 100]) }
            let longest = String(format: "%.2f", times[times.count - 1])
            print(
                "proof: loss \(Int(loss * 100)) %, \(kind.name): \(times.count) of \(count) completed; 50/90/99 in a hundred within "
                    + "\(figures.joined(separator: "/")) s, all within \(longest) s; load \(String(format: "%.2f", load)) of a core"
            )
            if Self.isFull { XCTAssertLessThanOrEqual(times[count * 9 / 10], goal, kind.name) }
        }
    }

    private static func maker(
        _ options: PairOptions,
        _ conditions: DtlsLinkConditions
    ) throws -> (UInt64) throws -> DtlsEnginePair {
        var options = options
        options.client.handshakeTimeout = .seconds(60)
        options.server.handshakeTimeout = .seconds(60)
        let client = try DtlsEngineContext(client: options.client, usesPreSharedKeys: options.clientUsesKeys)
        let server = try DtlsEngineContext(
            server: options.server,
            usesPreSharedKeys: options.serverKeys != nil,
            clientCertificates: options.clientCertificates
        )
        let keys = options.serverKeys ?? [:]
        return { [serverName = options.serverName, key = options.clientKey] seed in
            let engine = try DtlsEngine(client: client, serverName: serverName, preSharedKey: key)
            let pair = try DtlsEnginePair(client: engine, server: server, conditions: conditions, seed: seed)
            pair.onEvent = { _, event, engine in
                guard case .preSharedKeyRequested(.identity(let identity, _)) = event else { return }
                engine.answer(keys[identity].map { .key(DtlsSecretBytes($0)) } ?? .unknown)
            }
            return pair
        }
    }

    /// When a run has something to do.
    private struct Turn: Comparable {
        let time: ContinuousClock.Instant
        let index: Int

        static func < (left: Turn, right: Turn) -> Bool { left.time < right.time }
    }

    /// Drives all of them, in real time, to their ends.
    private func finish(_ runs: inout [Run]) throws {
        let clock = ContinuousClock()
        // Each run that is not over stands in it once.
        var turns = Heap(runs.indices.map { Turn(time: runs[$0].begins, index: $0) })
        while let turn = turns.min {
            var now = clock.now
            if turn.time > now {
                Thread.sleep(forTimeInterval: (turn.time - now).inSeconds)
                now = clock.now
            }
            turns.removeMin()
            if let next = try advance(&runs[turn.index], to: now) {
                turns.insert(Turn(time: next, index: turn.index))
            }
        }
    }

    /// Returns when it has something to do again; `nil` when it is over.
    private func advance(_ run: inout Run, to now: ContinuousClock.Instant) throws -> ContinuousClock.Instant? {
        let pair: DtlsEnginePair
        if let started = run.pair {
            pair = started
            pair.advance(to: now)
        } else {
            pair = try run.make()
            run.pair = pair
            run.begins = now
            pair.start(now: now)
        }
        if pair.isOpen {
            run.seconds = (now - run.begins).inSeconds
        } else if let reason = pair.client.closeReason ?? pair.server?.closeReason {
            run.failure = "\(reason)"
        } else if let next = pair.nextDeadline {
            return next
        } else {
            run.failure = "nothing is left to happen"
        }
        run.pair = nil
        return nil
    }

    private static func processorSeconds() -> Double {
        Double(clock()) / Double(CLOCKS_PER_SEC)
    }
}

extension Duration {
    fileprivate var inSeconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}
