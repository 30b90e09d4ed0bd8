import BenchmarkSupport
import CTwins
import Dispatch

/// Handshakes on several threads at once, with contexts that all of them share, as the loops of a server do.
struct ManyThreads {
    let count: Int
    let repetitions: Int

    /// What it takes: CPU time for each handshake, waits for each, and how long all of them took.
    private struct Cost {
        var cpu = 0.0
        var waits = 0.0
        var duration = 0.0
    }

    private static let handshakes = 400

    func compare() throws {
        print(
            "\n| handshakes on \(count) threads | CPU time of each, to that on one | waits for 1,000 | as many as on one |"
        )
        print("|---|---|---|---|")
        let handshakes = try Handshakes()
        try compare("library") { _ in { try handshakes.run($0) } }
        let twins = try [HandshakeTwin()]
        let all = try twins + (1..<count).map { _ in try HandshakeTwin(sharing: twins[0]) }
        try compare("plain C") { all[$0].run }
    }

    /// - Parameter work: Of each thread: does so many.
    private func compare(_ what: String, _ work: (Int) -> (Int) throws -> Double) throws {
        var results: [(one: Cost, many: Cost)] = []
        for index in 0...repetitions {
            let result = try (one: run(on: 1, work), many: run(on: count, work))
            // The first fills caches and pools.
            if index > 0 { results.append(result) }
        }
        let cpu = median(results.map { $0.many.cpu / $0.one.cpu })
        let waits = median(results.map { $0.many.waits * 1_000 })
        let speed = median(results.map { Double(count) * $0.one.duration / $0.many.duration })
        print("| \(what) | \(digits(cpu)) | \(digits(waits)) | \(digits(speed)) |")
    }

    private func run(on threads: Int, _ work: (Int) -> (Int) throws -> Double) throws -> Cost {
        let results = Results(threads)
        // Each iteration has a part of its own, and is over before this goes on.
        nonisolated(unsafe) let parts = (0..<threads).map { work($0) }
        let start = ContinuousClock.now
        DispatchQueue.concurrentPerform(iterations: threads) { index in
            let waits = twin_waits()
            let time = try? parts[index](Self.handshakes)
            results.set(index, time, waits: twin_waits() - waits)
        }
        let duration = (ContinuousClock.now - start) / .nanoseconds(1)
        let all = Double(threads * Self.handshakes)
        return Cost(cpu: try results.time / all, waits: results.waits / all, duration: duration)
    }

    /// `@unchecked Sendable`: each thread has a place of its own.
    private final class Results: @unchecked Sendable {
        private let places: UnsafeMutableBufferPointer<(time: Double?, waits: UInt64)>

        init(_ count: Int) {
            places = .allocate(capacity: count)
            places.initialize(repeating: (nil, 0))
        }

        deinit { places.deallocate() }

        func set(_ index: Int, _ time: Double?, waits: UInt64) { places[index] = (time, waits) }

        var time: Double {
            get throws {
                try places.reduce(0) { sum, place in
                    guard let time = place.time else { throw Failure("a thread's handshakes have failed") }
                    return sum + time
                }
            }
        }

        var waits: Double { places.reduce(0) { $0 + Double($1.waits) } }
    }
}
