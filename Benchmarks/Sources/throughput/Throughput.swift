import ArgumentParser
import BenchmarkSupport
import Glibc

@main
enum Throughput {
    static func main() async throws {
        // Not a subcommand, so that --help has the options of who measures.
        if CommandLine.arguments.dropFirst().first == Sink.word {
            try await Sink.run()
        } else {
            await Measure.main(Array(CommandLine.arguments.dropFirst()))
        }
    }
}

struct Measure: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "throughput",
        abstract: "Measures what a datagram costs a client that sends as fast as it can, beside plain C.",
        discussion: """
            Each line is a way to send: the CPU time for each datagram, its ratio to that of the C program that calls \
            sendto for each, how many bits of payload are sent in a second, and how many of the datagrams arrive: \
            medians. Who receives them is a process of its own that looks at nothing.
            """
    )

    @OptionGroup var amount: Amount

    @Option(help: "How many bytes each of them carries.")
    var bytes = 1_200

    @Option(
        help: ArgumentHelp(
            "Only ways to send that have this in their name, and what they are compared with.",
            valueName: "text"
        )
    )
    var only: String?

    func validate() throws {
        guard (1...1_200).contains(bytes) else { throw ValidationError("--bytes takes 1 to 1200") }
    }

    private struct Result {
        /// Nanoseconds of CPU time for each datagram.
        var cost: Double
        /// Of payload, in a second.
        var megabits: Double
        var arrived: Double
    }

    func run() async throws {
        let sink = try ChildProcess(arguments: [Sink.word])
        defer { sink.end() }
        let port = UInt16(try sink.number(after: "port"))
        let library = try await Library(port: port)
        let payload = [UInt8](repeating: 0x58, count: bytes)
        let ways = try Twin.ways(port: port) + library.ways.filter { only.map($0.name.contains) ?? true }
        var results = ways.map { _ in [Result]() }
        for repetition in 0...amount.repetitions {
            for (index, way) in ways.enumerated() {
                let result = try await measure(sink) { try await way.send(payload, amount.datagrams) }
                // The first fills caches and pools.
                if repetition > 0 { results[index].append(result) }
            }
        }
        await library.close()
        printLine(
            "| \(grouped(bytes)) bytes in a datagram | ns | to sendto in C | Mbit/s | arrived |\n|---|---|---|---|---|"
        )
        for (way, own) in zip(ways, results) {
            let ratio = median(zip(own, results[0]).map { $0.cost / $1.cost })
            let cost = grouped(Int(median(own.map(\.cost)).rounded()))
            let speed = grouped(Int(median(own.map(\.megabits)).rounded()))
            let arrived = "\(Int((median(own.map(\.arrived)) * 100).rounded())) %"
            printLine("| \(way.name) | \(cost) | \(digits(ratio)) | \(speed) | \(arrived) |")
        }
    }

    private func measure(_ sink: ChildProcess, _ send: () async throws -> Void) async throws -> Result {
        let before = try arrivals(sink)
        let start = ContinuousClock.now
        let cpuBefore = try ownCPUTime()
        try await send()
        let cpu = try ownCPUTime() - cpuBefore
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        return Result(
            cost: cpu / Double(amount.datagrams),
            megabits: Double(amount.datagrams * bytes * 8) / seconds / 1e6,
            arrived: Double(try arrivals(sink) - before) / Double(amount.datagrams)
        )
    }

    private func arrivals(_ sink: ChildProcess) throws -> Int {
        sink.tell("count")
        return try sink.number(after: "arrived")
    }
}

/// A way to send.
struct Way {
    let name: String
    /// Sends the payload so many times.
    let send: (_ payload: [UInt8], _ times: Int) async throws -> Void
}
