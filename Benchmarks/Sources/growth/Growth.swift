import ArgumentParser
import BenchmarkSupport
import Glibc

@main
enum Growth {
    static func main() async throws {
        let arguments = Array(CommandLine.arguments.dropFirst())
        // Not a subcommand, so that --help has the options of who measures.
        if let first = arguments.first, let endpoint = Endpoint(rawValue: first) {
            try await endpoint.run(arguments: Array(arguments.dropFirst()))
        } else {
            Measure.main(arguments)
        }
    }
}

struct Measure: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "growth",
        abstract: "Measures what an echo costs an endpoint with few connections, and with many.",
        discussion: """
            Each line is an endpoint in a process of its own, for each number of connections, beside a C program on the \
            same OpenSSL. Datagrams come from all connections, in no order. Its figures are the nanoseconds of CPU time \
            that the process takes for an echo, and in brackets their ratio to those of the first column: medians. \
            Standard error tells what is being done.
            """
    )

    @Argument(help: "How many connections.")
    var connections = [10, 1_000, 10_000, 100_000]

    @Option(help: "What is measured. Repeatable. Everything, when it is not given.")
    var only: [Endpoint] = []

    @OptionGroup var amount: Amount

    @Option(help: "How many bytes each of them carries.")
    var bytes = 64

    @Flag(help: "Negotiate Connection IDs, which the C program knows none of.")
    var connectionIds = false

    @Option(help: "Of the order in which the datagrams come.")
    var seed: UInt64 = 1

    func validate() throws {
        guard !connections.isEmpty, connections.allSatisfy({ (2...1_000_000).contains($0) }) else {
            throw ValidationError("connections are 2 to 1000000")
        }
        guard (1...1_200).contains(bytes) else { throw ValidationError("--bytes takes 1 to 1200") }
    }

    func run() throws {
        let endpoints = only.isEmpty ? Endpoint.allCases : Endpoint.allCases.filter(only.contains)
        var subjects: [[Subject]] = []
        defer { for subject in subjects.joined() { subject.end() } }
        for endpoint in endpoints {
            subjects.append([])
            for count in connections {
                printLine("\(endpoint.title): making \(grouped(count)) connections", to: STDERR_FILENO)
                let subject = try Subject(endpoint, connections: count, connectionIDs: connectionIds)
                subjects[subjects.count - 1].append(subject)
            }
        }
        var generator = Generator(state: seed)
        // By endpoint, by number of connections, by repetition.
        var costs = subjects.map { $0.map { _ in [Double]() } }
        for repetition in 0...amount.repetitions {
            printLine("repetition \(repetition) of \(amount.repetitions)", to: STDERR_FILENO)
            for (line, subjects) in subjects.enumerated() {
                for (column, subject) in subjects.enumerated() {
                    let cost = try subject.measure(amount.datagrams, bytes: bytes, &generator)
                    // The first fills caches and pools.
                    if repetition > 0 { costs[line][column].append(cost) }
                }
            }
        }
        write(endpoints, costs)
    }

    private func write(_ endpoints: [Endpoint], _ costs: [[[Double]]]) {
        printLine("| ns for an echo | \(connections.map { "\(grouped($0))" }.joined(separator: " | ")) |")
        printLine("|\(String(repeating: "---|", count: connections.count + 1))")
        for (endpoint, costs) in zip(endpoints, costs) {
            let cells = costs.map { cost in
                "\(grouped(Int(median(cost).rounded()))) (\(digits(ratio(of: cost, to: costs[0]))))"
            }
            printLine("| \(endpoint.title) | \(cells.joined(separator: " | ")) |")
        }
    }

    private func ratio(of costs: [Double], to others: [Double]) -> Double {
        median(zip(costs, others).map { $0 / $1 })
    }
}

/// Knuth's MMIX generator.
struct Generator {
    var state: UInt64

    /// A number below `limit`.
    mutating func next(below limit: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int((state >> 33) % UInt64(limit))
    }
}
