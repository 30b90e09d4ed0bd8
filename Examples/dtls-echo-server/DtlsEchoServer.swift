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

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A client's pre-shared key. Repeatable. A key that begins with hex: is read as hexadecimal digits.",
            valueName: "identity:key"
        )
    )
    var psk: [String] = []

    @Option(help: ArgumentHelp("Hint that tells clients which identity to use.", valueName: "text"))
    var pskHint: String?

    @Option(
        help: ArgumentHelp(
            "CA certificates in PEM. Clients are asked for a certificate, and one they show must lead to these.",
            valueName: "file"
        )
    )
    var clientCa: String?

    @Flag(help: "Refuse clients that show no certificate. --fingerprint does, too.")
    var requireClientCertificate = false

    @Option(
        help: ArgumentHelp(
            "Key of session tickets: 80 bytes in hexadecimal digits. Repeatable, the newest first; only that one makes new "
                + "tickets (default: a random one, replaced every hour).",
            valueName: "hex"
        )
    )
    var ticketKey: [String] = []

    @OptionGroup
    var connectionOptions: ConnectionOptions

    @Option(
        help: ArgumentHelp(
            "On SIGTERM, put the connections into this file in place of closing them; at the start, go on with those that "
                + "are there. FILE.key, a secret, is made when there is none.",
            valueName: "file"
        )
    )
    var state: String?

    @Option(
        help: ArgumentHelp(
            "Print what was counted as one line of JSON every so many seconds, 0.1 to 86400.",
            valueName: "seconds"
        )
    )
    var stats: Double?

    @Flag(help: "Say where the server listens, and no more.")
    var quiet = false

    func validate() throws {
        if psk.isEmpty, connectionOptions.certificate == nil {
            throw ValidationError(
                "no client could connect: give --psk IDENTITY:KEY, or --certificate FILE and --private-key FILE"
            )
        }
        guard (1...64).contains(loops) else {
            throw ValidationError("--loops takes 1 to 64")
        }
        if let stats, !(0.1...86_400).contains(stats) {
            throw ValidationError("--stats takes 0.1 to 86400 seconds")
        }
        if state == "" {
            throw ValidationError("--state needs the name of a file")
        }
        if pskHint != nil, psk.isEmpty {
            throw ValidationError("--psk-hint needs --psk")
        }
        if clientCa != nil, connectionOptions.certificate == nil {
            throw ValidationError("--client-ca needs --certificate: only a server with one can ask clients for theirs")
        }
        if pinsClients, connectionOptions.certificate == nil {
            throw ValidationError(
                "--fingerprint needs --certificate: only a server with one can ask clients for theirs"
            )
        }
        if pinsClients, clientCa != nil {
            throw ValidationError(
                "--fingerprint alone decides about clients' certificates: it cannot go with --client-ca"
            )
        }
        if requireClientCertificate, clientCa == nil, !pinsClients {
            throw ValidationError("--require-client-certificate needs --client-ca or --fingerprint")
        }
        _ = try preSharedKeys()
        _ = try resumption()
    }

    func run() async throws {
        let signals = terminationSignals()
        let context = try context()
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
        let printer = Task { [stats] in
            guard let stats else { return }
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(stats), clock: .continuous)
                if !Task.isCancelled { Console.print(server.statistics.json) }
            }
        }
        await EchoService(isQuiet: quiet).run(server)
        printer.cancel()
        stopper.cancel()
        if let handedOver = try await stopper.value { log("handed over", handedOver) }
    }

    private func bind(_ context: DtlsServerContext, _ inherited: DtlsSealedAssociations?) async throws -> DtlsServer {
        let isQuiet = quiet
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
        if !quiet { Console.print("\(whatHappened) \(counted(count, "connection", plural: "connections"))") }
    }

    private func context() throws -> DtlsServerContext {
        var configuration = try connectionOptions.configuration()
        var clientCertificates = pinsClients ? DtlsClientCertificatePolicy.required : .none
        if let clientCa {
            configuration.trust = .certificates(try DtlsCertificate.certificates(pemFile: clientCa))
            clientCertificates = requireClientCertificate ? .required : .requested
        }
        return try DtlsServerContext(
            configuration,
            preSharedKeys: psk.isEmpty ? nil : DtlsPreSharedKeyStore(try preSharedKeys()),
            identityHint: pskHint.map { Array($0.utf8) },
            clientCertificates: clientCertificates,
            resumption: try resumption()
        )
    }

    /// Whether clients are known by the fingerprints of their certificates.
    private var pinsClients: Bool { !connectionOptions.fingerprint.isEmpty }

    private func resumption() throws -> DtlsServerResumption {
        guard !ticketKey.isEmpty else { return .automatic }
        return .tickets(try DtlsTicketKeys(secrets: try ticketKey.map { try ticketSecret(argument: $0) }))
    }

    private func preSharedKeys() throws -> [DtlsPreSharedKey] {
        let keys = try psk.map { try preSharedKey(argument: $0) }
        guard Set(keys.map(\.identity)).count == keys.count else {
            throw ValidationError("--psk was given twice for the same identity")
        }
        return keys
    }
}
