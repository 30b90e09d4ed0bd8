import ArgumentParser
import DTLS
import ExampleSupport

struct ClientCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "client",
        abstract: "Carries plain UDP clients' datagrams to a DTLS server.",
        discussion: """
            Listens for plain datagrams, on 127.0.0.1 unless told otherwise: whoever may send to that port is served with \
            the credentials given here. Each peer, which is a source address and port, has a DTLS connection of its own. It \
            is made with the peer's first datagram, made anew when it was lost, and closed when the peer is silent.

              dtls-tunnel client --listen 5683 --to gateway.example:5684 \\
                  --psk sensor-1:secret
              dtls-tunnel client --listen 1514 --to logs.example:6514 --ca ca.pem \\
                  --certificate client.pem --private-key client.key

            The server's certificate must lead to --ca (the system's roots without it) and be made out to the host of --to \
            or to --server-name. Or it must be the one of --fingerprint; then nothing else about it counts.

            The first line on standard output is "listening on ADDRESS". Then comes a line for each connection that opens, \
            fails or closes. SIGINT and SIGTERM close every connection properly and end the program with status 0. Status \
            64 means wrong usage, 1 any other failure.

            Arguments can be seen by every user of the machine.
            """
    )

    @Option(
        help: ArgumentHelp(
            "Where plain datagrams come in: PORT or HOST:PORT (the default host is 127.0.0.1). Port 0 picks a free one. "
                + "Strangers who reach it are served with your credentials, and answers go to whatever source a datagram "
                + "claims to have: there the tunnel reflects, with the service's own factor.",
            valueName: "host:port"
        ),
        transform: HostPort.init(argument:)
    )
    var listen: HostPort

    @OptionGroup
    var tunnelOptions: TunnelOptions

    @Option(help: ArgumentHelp("Datagrams of a peer that wait for its handshake, 1 to 1000.", valueName: "number"))
    var queue = 64

    @Option(
        help: ArgumentHelp(
            "How long a handshake may take, 0.1 to 86400 (default: 10, or what --preset says, if it is given).",
            valueName: "seconds"
        )
    )
    var timeout: Double?

    @Option(
        help: ArgumentHelp(
            "After so many seconds, 1 to 86400, in which something was sent and nothing came, connect anew, as the server may "
                + "have been restarted; 0 never does.",
            valueName: "seconds"
        )
    )
    var silence = 30.0

    @OptionGroup
    var credentials: ClientCredentialOptions

    func validate() throws {
        guard (1...1_000).contains(queue) else {
            throw ValidationError("--queue takes 1 to 1000")
        }
        if let timeout, !(0.1...86_400).contains(timeout) {
            throw ValidationError("--timeout takes 0.1 to 86400 seconds")
        }
        guard silence == 0 || (1...86_400).contains(silence) else {
            throw ValidationError("--silence takes 1 to 86400 seconds, or 0")
        }
    }

    func run() async throws {
        let signals = terminationSignals()
        let context = try credentials.context(for: Journal.program)
        let journal = Journal(isQuiet: tunnelOptions.report.quiet)
        defer { journal.finish() }
        DescriptorLimit.raise(forPeers: tunnelOptions.maxPeers, journal)
        let listener = try await listener()
        let link = ServerLink(
            ServerLink.Settings(
                target: tunnelOptions.to,
                context: context,
                serverName: credentials.serverName,
                timeout: handshakeTimeout,
                reconnection: silence == 0 ? .never : .whenSilent(for: .seconds(silence))
            )
        )
        let usesKey = credentials.psk != nil
        let tunnel = ClientTunnel(
            from: listener,
            through: link,
            limits: ClientTunnel.Limits(
                peers: tunnelOptions.maxPeers,
                pending: queue,
                idle: tunnelOptions.idleTime(default: 300)
            ),
            journal: journal,
            advice: { failureText(ClientCredentialOptions.withAdvice($0, usesPreSharedKey: usesKey)) }
        )
        do {
            try tunnel.start()
        } catch {
            throw ExampleFailure("the socket at \(listener.localAddress) cannot be read: \(error)")
        }
        Console.print("listening on \(listener.localAddress)")
        let printer = journal.printStatistics(every: tunnelOptions.report.stats) {
            tunnel.statistics.json(adding: "tunnel", tunnel.tally.json)
        }
        await Shutdown.wait(for: signals, drain: tunnelOptions.drain) { await tunnel.drain(for: $0) }
        await tunnel.close()
        printer.cancel()
    }

    /// Nil where the preset knows better.
    private var handshakeTimeout: Duration? {
        timeout == nil && credentials.connectionOptions.preset != nil ? nil : .seconds(timeout ?? 10)
    }

    private func listener() async throws -> PlainSocket {
        let place = HostPort(host: listen.host ?? "127.0.0.1", port: listen.port)
        var reason = ""
        for address in try await AddressLookUp.addresses(of: place) {
            do {
                return try PlainSocket(listeningAt: address)
            } catch {
                reason = "\(error)"
            }
        }
        throw ExampleFailure("cannot listen on \(escapedForTerminal(place.description.utf8)): \(reason)")
    }
}
