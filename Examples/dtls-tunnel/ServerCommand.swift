import ArgumentParser
import DTLS
import ExampleSupport

struct ServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "server",
        abstract: "Puts DTLS in front of a plain UDP service.",
        discussion: """
            Listens for DTLS clients and carries what they send to the service, each from a port of its own, so that the \
            service tells them apart; what it answers goes back to them. The service need not be there when the tunnel \
            starts.

              dtls-tunnel server --listen 5684 --to 127.0.0.1:5683 --psk sensor-1:secret
              dtls-tunnel server --listen 6514 --to 127.0.0.1:514 \\
                  --certificate server.pem --private-key server.key \\
                  --client-ca clients.pem --require-client-certificate

            The first line on standard output is "listening on ADDRESS". Then comes a line for each client that connects, \
            moves or goes, and one for each handshake that failed. SIGINT and SIGTERM close every connection properly and \
            end the program with status 0. Status 64 means wrong usage, 1 any other failure.

            Arguments can be seen by every user of the machine.
            """
    )

    @Option(
        help: ArgumentHelp(
            "Where DTLS clients connect: PORT or HOST:PORT (default: [::]:5684, which serves IPv6 and IPv4). Port 0 picks a "
                + "free one.",
            valueName: "host:port"
        ),
        transform: HostPort.init(argument:)
    )
    var listen: HostPort?

    @OptionGroup
    var tunnelOptions: TunnelOptions

    @Option(help: "How many cores to use, 1 to 64. More than one need Linux.")
    var loops = 1

    @OptionGroup
    var credentials: ServerCredentialOptions

    func validate() throws {
        guard (1...64).contains(loops) else {
            throw ValidationError("--loops takes 1 to 64")
        }
    }

    func run() async throws {
        let signals = terminationSignals()
        let context = try credentials.context()
        if letsAnybodyIn {
            Console.note(
                "\(Journal.program): a server with --certificate lets anybody in without --require-client-certificate or "
                    + "--fingerprint, and the service sees them at an address of this machine"
            )
        }
        let journal = Journal(isQuiet: tunnelOptions.report.quiet)
        defer { journal.finish() }
        let service = Service(tunnelOptions.to)
        await service.lookUp()
        if service.address == nil {
            journal.remark(.noService, "\(service.failure); it is asked for again when there is something to send")
        }
        DescriptorLimit.raise(forPeers: tunnelOptions.maxPeers, journal)

        let tunnel = ServerTunnel(to: service, loops: loops, journal: journal)
        let server = try await bind(context, journal)
        Console.print("listening on \(server.localAddress)")
        server.handleConnections { tunnel.carry($0) }
        let printer = journal.printStatistics(every: tunnelOptions.report.stats) {
            server.statistics.json(adding: "tunnel", tunnel.tally.json)
        }
        await Shutdown.wait(for: signals, drain: tunnelOptions.drain) { seconds in
            await server.drain(for: .seconds(seconds))
        }
        await server.close()
        printer.cancel()
    }

    /// Whether a client gets through without a key or a certificate of its own. That there are keys, too, or that
    /// certificates which are shown must be good, keeps nobody out.
    private var letsAnybodyIn: Bool {
        let options = credentials.connectionOptions
        return options.certificate != nil && !credentials.requireClientCertificate && options.fingerprint.isEmpty
    }

    private func bind(_ context: DtlsServerContext, _ journal: Journal) async throws -> DtlsServer {
        var limits = DtlsServerLimits()
        limits.connections = tunnelOptions.maxPeers
        limits.idleTimeout = tunnelOptions.idleTime(default: 3_600).map { .seconds($0) }
        return try await DtlsServer.bind(
            host: listen?.host ?? "::",
            port: listen?.port ?? 5684,
            context: context,
            loops: loops,
            limits: limits,
            handshakeFailed: { peer, error in journal.say("refused \(peer): \(failureText(error))") }
        )
    }
}
