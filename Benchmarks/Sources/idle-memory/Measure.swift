import ArgumentParser
import BenchmarkSupport
import CMemory
import Glibc

struct Measure: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "idle-memory",
        abstract: "Measures the bytes that an idle connection takes in a server's process.",
        discussion: """
            Makes connections to a server in a process of its own, and says what they take there. Standard error tells \
            what is being waited for.
            """
    )

    @Argument(help: "How many connections. Several numbers are measured one after the other.")
    var connections: [Int] = [1_000, 100_000]

    @Option(help: "Who seals and opens the records. Repeatable. Both, when it is not given.")
    var recordLayer: [RecordLayer] = []

    @Flag(name: .customLong("without-connection-ids"), help: "Clients that know no Connection IDs.")
    var withoutConnectionIDs = false

    @OptionGroup
    var options: ServerOptions

    @Option(help: ArgumentHelp("A program to run the server under, such as a profiler.", valueName: "command"))
    var under: String?

    /// So many are there before the first reading, so that what is made once does not count.
    private static let warmUp = 50

    func validate() throws {
        guard connections.allSatisfy({ (1...10_000_000).contains($0) }) else {
            throw ValidationError("connections are 1 to 10000000")
        }
        guard (0...3_600).contains(options.idle) else { throw ValidationError("--idle takes 0 to 3600 seconds") }
    }

    func run() throws {
        for count in connections {
            for layer in recordLayer.isEmpty ? RecordLayer.allCases : recordLayer { try measure(count, layer) }
        }
    }

    private func measure(_ count: Int, _ layer: RecordLayer) throws {
        let server = try ChildProcess(
            arguments: [Serve.word, "--record-layer", layer.rawValue] + options.arguments,
            wrapper: under.map { $0.split(separator: " ").map(String.init) } ?? []
        )
        defer { server.end() }
        let port = try server.answer { $0.hasPrefix("port ") ? UInt16($0.dropFirst(5)) : nil }
        var clients = try Clients(suite: options.suite, connectionIDs: !withoutConnectionIDs, port: port)
        func reading(with connections: Int, after more: Int) throws -> MemoryReading {
            printLine("\(layer): making \(more) connections", to: STDERR_FILENO)
            try clients.connect(more)
            printLine("\(layer): waiting until they have been idle for \(options.idle) s", to: STDERR_FILENO)
            server.tell("\(connections)")
            return try server.answer { MemoryReading(line: $0) }
        }
        let before = try reading(with: Self.warmUp, after: Self.warmUp)
        let after = try reading(with: Self.warmUp + count, after: count)
        func each(_ value: KeyPath<MemoryReading, Int>) -> Int {
            (after[keyPath: value] - before[keyPath: value]) / count
        }
        printLine(
            "\(layer), \(count) connections: \(each(\.resident)) bytes each resident, \(each(\.allocated)) allocated"
        )
        if options.census { printCensus(before.census, after.census, count) }
    }

    private func printCensus(
        _ before: [MemoryReading.SizeClass],
        _ after: [MemoryReading.SizeClass],
        _ count: Int
    ) {
        printLine("  block size   blocks each   bytes each")
        for (index, pair) in zip(before, after).enumerated() {
            let blocks = pair.1.blocks - pair.0.blocks
            let bytes = pair.1.bytes - pair.0.bytes
            // What only some of them have is chance.
            guard abs(blocks) * 20 >= count || abs(bytes) >= count * 4 else { continue }
            let size = "\(index == before.count - 1 ? "from " : "")\(memory_class_size(index))"
            let each = Double(blocks * 100 / count) / 100
            printLine("  \(right(size, 10))   \(right("\(each)", 11))   \(right("\(bytes / count)", 10))")
        }
    }

    private func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }
}
