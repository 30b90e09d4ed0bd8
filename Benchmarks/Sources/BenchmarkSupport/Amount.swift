import ArgumentParser

/// How much is measured of a datagram's cost.
package struct Amount: ParsableArguments {
    @Option(help: "How many repetitions.")
    package var repetitions = 9

    @Option(help: "How many datagrams in each.")
    package var datagrams = 50_000

    package init() {}

    package func validate() throws {
        guard repetitions >= 1, datagrams >= 1 else {
            throw ValidationError("--repetitions and --datagrams take 1 or more")
        }
    }
}
