import FuzzSupport

@testable import DTLSCore

/// The record layer of open associations, whose whole behaviour is compared with a model: what is authentic, new and
/// proper comes of it, and nothing else.
struct FuzzDetachedRecords: FuzzTarget {
    private let keys: [RecordKeys]
    private let contexts: [DtlsEngineContext]

    private struct Failure: Error {}

    init() throws {
        keys = try RecordCipher.Algorithm.allCases.map { algorithm in
            let handshake = DtlsSecretBytes((0..<112).map { UInt8($0) ^ algorithm.rawValue })
            let hash = algorithm == .aes256GCM ? RecordKeys.Hash.sha384 : .sha256
            guard let cipher = RecordCipher.of(algorithm),
                let keys = RecordKeys(cipher: cipher, hash: hash, handshake: handshake)
            else { throw Failure() }
            return keys
        }
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        contexts = [
            try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true),
            try DtlsEngineContext(server: DtlsConfiguration(), settings: settings),
        ]
    }

    func run(_ input: FuzzInput) throws {
        var input = input
        let plan = Plan(&input)
        let keys = keys[plan.suite % keys.count]
        var session = RecordSession(plan, keys, contexts)
        var steps = 0
        while !input.isAtEnd, steps < 64 {
            session.perform(&input)
            steps += 1
        }
        session.finish()
    }

    func seeds() -> [(name: String, bytes: [UInt8])] {
        var seeds: [(String, [UInt8])] = []
        let sides: [(String, [UInt8])] = [
            ("bare", [0, 0, 0, 0, 0, 0]), ("client", [4, 0, 0, 0, 0, 8]), ("server", [0, 0, 0, 8, 15, 0]),
            ("both", [1, 15, 8, 32, 127, 12]), ("last", [8, 0, 3, 20, 8, 0, 3, 30]),
            ("used-up", [8, 0, 16, 8, 0, 16]),
        ]
        for suite in 0..<UInt8(keys.count) {
            seeds += special(suite)
            for (index, (name, side)) in sides.enumerated() {
                let choice = UInt8(index + Int(suite)) % 8 | [0, 0x40, 0, 0x40, 0x80, 0][index]
                let plan = [suite, choice, suite &* 40] + side
                var all: [UInt8] = []
                for step in 0..<RecordSession.steps {
                    // Something to work on, in both directions, and then the step.
                    let sends: [UInt8] = [0, 30, step, 0x80, 40, step, 3, 0x83]
                    let does: [UInt8] = [step, 0, 1, 2, 3, 4, 0x80 | step, 5, 4, 3, 2, 1]
                    seeds.append(("\(name)-\(suite)-\(step)", plan + sends + does + [14]))
                    all += sends + does
                }
                seeds.append(("\(name)-\(suite)-all", plan + all))
            }
        }
        return seeds
    }
}

extension FuzzDetachedRecords {
    /// What takes several steps that fit each other.
    private func special(_ suite: UInt8) -> [(name: String, bytes: [UInt8])] {
        var seeds: [(String, [UInt8])] = []
        // The last flight again, whole and through a smaller MTU, in another engine, and once too often.
        let again: [UInt8] = [6, 1, 0, 0, 0]
        let flight = again + [0x8B, 1, 0] + again + [0x8D] + again + [0, 1, 0, 3] + again + again
        // Forged records, until there are too many.
        let forged = [UInt8]((0..<12).flatMap { [7, 3, 40] + [UInt8](repeating: $0, count: 40) + [0] })
        for count: UInt8 in [0, 9] {
            seeds.append(("flight-\(suite)-\(count)", [suite, 0, 100, count, 0, 0, count, 0, 0x88] + flight))
            seeds.append(("forged-\(suite)-\(count)", [suite, 0x80, 100, count, 0, 0, count, 0, 0] + forged))
        }
        // Numbers in and around windows of all sizes.
        for window: UInt8 in 0..<8 {
            let plan = [suite, window, 100, 0, 0, 2, 200, window, 0, 2, 200]
            for choice: UInt8 in 0..<8 {
                let edges = [UInt8](stride(from: 1, through: 31, by: 6).flatMap { [6, 0, choice << 5 | $0, 1, 1] })
                let jump: [UInt8] = [6, 0, 1 << 5 | 3, 1, 1]
                seeds.append(("window-\(suite)-\(window)-\(choice)", plan + jump + edges + jump + edges))
            }
        }
        return seeds
    }
}

/// What libFuzzer calls first.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ arguments: UnsafeMutableRawPointer?) -> CInt {
    FuzzDetachedRecords.prepare()
    return 0
}
