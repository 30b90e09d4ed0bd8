public import ArgumentParser

/// How much a server says of itself, on its command line.
public struct ReportOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Print what was counted as one line of JSON every so many seconds, 0.1 to 86400.",
            valueName: "seconds"
        )
    )
    public var stats: Double?

    @Flag(help: "Say where the server listens, and no more.")
    public var quiet = false

    /// Made by the argument parser.
    public init() {}

    /// Refuses what no file or peer is needed to refuse.
    public func validate() throws {
        if let stats, !(0.1...86_400).contains(stats) {
            throw ValidationError("--stats takes 0.1 to 86400 seconds")
        }
    }

    /// Prints `line` as often as `--stats` says, in a task that ends when it is cancelled.
    public func printStatistics(_ line: @escaping @Sendable () -> String) -> Task<Void, Never> {
        Task { [stats] in
            guard let stats else { return }
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(stats), clock: .continuous)
                if !Task.isCancelled { Console.print(line()) }
            }
        }
    }
}
