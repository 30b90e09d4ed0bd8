import ArgumentParser
import DTLS
import ExampleSupport

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

@main
struct DtlsEchoServer: ExampleCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-echo-server",
        abstract: "Sends every datagram back to the DTLS client it came from.",
        usage: """
            dtls-echo-server --psk <identity:key> ... [<options>]
            dtls-echo-server --certificate <file> --private-key <file> [<options>]
            """,
        discussion: """
            Clients are let in by a pre-shared key, by the server's certificate, or by either:

              dtls-echo-server --psk sensor-1:secret
              dtls-echo-server --psk sensor-1:hex:00ff10 --psk 'sensor-2:two words'
              dtls-echo-server --certificate server.pem --private-key server.key
              dtls-echo-server --certificate server.pem --private-key server.key \\
                  --client-ca clients.pem --require-client-certificate
              dtls-echo-server --certificate server.pem --private-key server.key \\
                  --fingerprint "$FINGERPRINT_OF_A_CLIENT"

            Clients may resume their sessions with the process that gave them, and with every process that has the \
            same --ticket-key and demands the same of clients:

              dtls-echo-server --psk sensor-1:secret --ticket-key $(openssl rand -hex 80)

            The first line on standard output is "listening on ADDRESS". Then comes a line for each connection that \
            opens, one when its client has moved to another address, one when it closes, and one for each handshake that \
            failed, with the reason. SIGINT closes every connection properly and ends the server with status 0; so does \
            SIGTERM without --state. Status 64 means wrong usage, 1 any other failure.

            A server with --state can be restarted without its clients noticing: SIGTERM puts the connections into the \
            file, sealed under the key in FILE.key, and the next server on that port with the same FILE goes on with \
            them. It has five minutes to start. SIGTERM ends the server with status 0, too.

              dtls-echo-server --psk sensor-1:secret --state connections

            Arguments can be seen by every user of the machine. A real server would read its keys from a file.
            """
    )

    @Option(help: "Address to listen on. The default serves IPv6 and IPv4.")
    var host = "::"

    @Option(help: "UDP port to listen on; 0 picks a free one.")
    var port: UInt16 = 5684

    @Option(help: "How many cores to use, 1 to 64. More than one need Linux.")
    var loops = 1

    @OptionGroup
    var credentials: ServerCredentialOptions

    @Option(
        help: ArgumentHelp(
            "On SIGTERM, put the connections into this file in place of closing them; at the start, go on with those that "
                + "are there. FILE.key, a secret, is made when there is none.",
            valueName: "file"
        )
    )
    var state: String?

    @OptionGroup
    var report: ReportOptions

    func validate() throws {
        guard (1...64).contains(loops) else {
            throw ValidationError("--loops takes 1 to 64")
        }
        if state == "" {
            throw ValidationError("--state needs the name of a file")
        }
    }

    func run() async throws {
        let signals = terminationSignals()
        let context = try credentials.context()
        let stateFile = try state.map { try StateFile(path: $0) }
        let inherited = try stateFile?.take()
        let server: DtlsServer
        do {
            server = try await bind(context, inherited)
        } catch let error as DtlsError where inherited != nil && error.code == .handOverRefused {
            // Too old, for instance. Their clients have to connect anew; that is no reason not to serve.
            Console.note("dtls-echo-server: no connection was taken over: \(error)")
            server = try await bind(context, nil)
        } catch {
            if let inherited { try stateFile?.putBack(inherited) }
            throw error
        }
        let takenOver = inherited.map { _ in server.statistics.connectionsOpen }
        Console.print("listening on \(server.localAddress)")
        if let takenOver { log("took over", takenOver) }

        let stopper = Task { () throws -> Int? in
            for await signal in signals {
                let handedOver = Result { signal == SIGTERM ? try stateFile?.exportAssociations(of: server) : nil }
                await server.close()
                return try handedOver.get()
            }
            throw ExampleFailure("the server stopped listening without being told to")
        }
        let printer = report.printStatistics { server.statistics.json }
        await EchoService(isQuiet: report.quiet).run(server)
        printer.cancel()
        stopper.cancel()
        if let failure = server.failure { throw failure }
        if let handedOver = try await stopper.value { log("handed over", handedOver) }
    }

    private func bind(_ context: DtlsServerContext, _ inherited: DtlsSealedAssociations?) async throws -> DtlsServer {
        let isQuiet = report.quiet
        return try await DtlsServer.bind(
            host: host,
            port: port,
            context: context,
            loops: loops,
            handshakeFailed: { peer, error in
                if !isQuiet { Console.print("refused \(peer): \(error)") }
            },
            associations: inherited
        )
    }

    private func log(_ whatHappened: String, _ count: Int) {
        if !report.quiet { Console.print("\(whatHappened) \(counted(count, "connection", plural: "connections"))") }
    }
}
