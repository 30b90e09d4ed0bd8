import ArgumentParser
import ExampleSupport

/// What both ends of a tunnel have in common on their command lines.
struct TunnelOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Where the datagrams go: HOST:PORT, an IPv6 address in brackets.",
            valueName: "host:port"
        ),
        transform: HostPort.init(argument:)
    )
    var to: HostPort

    @Option(help: ArgumentHelp("Most peers at a time, 1 to 100000.", valueName: "number"))
    var maxPeers = 1_000

    @Option(
        help: ArgumentHelp(
            "After so many seconds without a datagram either way a peer is let go; 0 keeps it (default: 300 for a client, "
                + "3600 for a server).",
            valueName: "seconds"
        )
    )
    var idle: Double?

    @Option(
        help: ArgumentHelp(
            "At SIGINT or SIGTERM, let no new peers in and go on for so long with those that are there. A second signal ends "
                + "that.",
            valueName: "seconds"
        )
    )
    var drain = 0.0

    @OptionGroup
    var report: ReportOptions

    func validate() throws {
        guard to.host != nil, to.port != 0 else {
            throw ValidationError("--to needs a host and a port above 0, as in localhost:5684")
        }
        guard (1...100_000).contains(maxPeers) else {
            throw ValidationError("--max-peers takes 1 to 100000")
        }
        guard (0...1e9).contains(idle ?? 0) else {
            throw ValidationError("--idle takes 0 to 1000000000 seconds")
        }
        guard (0...86_400).contains(drain) else {
            throw ValidationError("--drain takes 0 to 86400 seconds")
        }
    }

    /// How long a peer may be silent; nil for ever.
    func idleTime(default seconds: Double) -> Double? {
        let seconds = idle ?? seconds
        return seconds == 0 ? nil : seconds
    }
}
