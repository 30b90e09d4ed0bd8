import ArgumentParser
import BenchmarkSupport
import CMemory
import CTwins

@main
struct Micro: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-micro",
        abstract: "Measures what the library computes beside plain C that does the same on the same OpenSSL.",
        discussion: """
            Each line is CPU time: the median of the library's and of the C program's repetitions, which take turns, \
            and the median of the ratios of neighbouring ones. That is the figure to look at; how fast the machine is \
            cancels out.
            """
    )

    @Option(help: "How many repetitions.")
    var repetitions = 15

    @Option(help: ArgumentHelp("Only lines that have this in their name, and no counting.", valueName: "text"))
    var only: String?

    @Option(help: "On how many threads at once handshakes are made, at the end; 1 leaves that out.")
    var threads = 2

    func validate() throws {
        guard (1...64).contains(threads) else { throw ValidationError("--threads takes 1 to 64") }
        guard repetitions >= 1 else { throw ValidationError("--repetitions takes 1 or more") }
    }

    func run() throws {
        print("| what | library, ns | plain C, ns | ratio [least..most] |")
        print("|---|---|---|---|")
        for size in [64, 1_200] {
            let pair = try EnginePair()
            try compare("seal \(size) bytes", 2_000, RecordTwin(rekeys: false).seal(size)) { try pair.seal(size, $0) }
            try compare("seal \(size) bytes, a context for all", 2_000, RecordTwin(rekeys: true).seal(size)) {
                try pair.seal(size, $0)
            }
            try compare("open \(size) bytes", 2_000, RecordTwin(rekeys: false).open(size)) { try pair.open(size, $0) }
            try compare("open \(size) bytes, a context for all", 2_000, RecordTwin(rekeys: true).open(size)) {
                try pair.open(size, $0)
            }
        }
        let handshakes = try Handshakes()
        try compare("handshake, pre-shared key, both sides", 20, HandshakeTwin().run) { try handshakes.run($0) }
        for count in [10, 1_000_000] where only == nil || "look-up among".contains(only ?? "") {
            let table = try Table(count)
            try compare("look-up among \(count)", 100_000, table.visitTwin) { try table.visit($0) }
        }
        if threads > 1, only == nil || "threads".contains(only ?? "") {
            try ManyThreads(count: threads, repetitions: repetitions).compare()
        }
        if only == nil { try countBlocks() }
    }

    /// Lets both do `count` of something in turn, and prints what one takes.
    ///
    /// - Parameter twin: Like `own`, does so many and returns the nanoseconds of it.
    private func compare(
        _ what: String,
        _ count: Int,
        _ twin: (Int) throws -> Double,
        own: (Int) throws -> Double
    ) throws {
        if let only, !what.contains(only) { return }
        var results: [(own: Double, twin: Double)] = []
        for index in 0...repetitions {
            let result = (own: try own(count) / Double(count), twin: try twin(count) / Double(count))
            // The first fills caches and pools.
            if index > 0 { results.append(result) }
        }
        let ratios = results.map { $0.own / $0.twin }.sorted()
        let spread = "[\(digits(ratios[0]))..\(digits(ratios[ratios.count - 1]))]"
        let times = "\(digits(median(results.map(\.own)))) | \(digits(median(results.map(\.twin))))"
        print("| \(what) | \(times) | \(digits(median(ratios))) \(spread) |")
    }

    /// Counts what the allocator is asked for. Last, because counting does not end.
    private func countBlocks() throws {
        let count = 1_000
        print("\n| blocks allocated for each | library | plain C |\n|---|---|---|")
        memory_begin_census()
        func each(_ body: (Int) throws -> Double) throws -> String {
            _ = try body(count)
            let before = memory_made()
            _ = try body(count)
            return digits(Double(memory_made() - before) / Double(count))
        }
        let pair = try EnginePair()
        let twin = try RecordTwin(rekeys: false)
        for size in [64, 1_200] {
            let sealed = (try each { try pair.seal(size, $0) }, try each(twin.seal(size)))
            print("| datagram out, \(size) bytes | \(sealed.0) | \(sealed.1) |")
            let opened = (try each { try pair.open(size, $0) }, try each(twin.open(size)))
            print("| datagram in, \(size) bytes | \(opened.0) | \(opened.1) |")
        }
        let handshakes = try Handshakes()
        let shaken = (try each { try handshakes.run($0) }, try each(HandshakeTwin().run))
        print("| handshake, both sides | \(shaken.0) | \(shaken.1) |")
    }
}

/// The nanoseconds of CPU time that something takes.
func cpuTime(_ body: () throws -> Void) rethrows -> Double {
    let start = twin_cpu_time()
    try body()
    return Double(twin_cpu_time() - start)
}
