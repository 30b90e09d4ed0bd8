import ArgumentParser
import DTLS
import ExampleSupport

@main
struct DtlsClientCommand: ExampleCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-client",
        abstract: "Sends messages to a DTLS server and prints what comes back.",
        discussion: """
            Messages are the lines of standard input (without their line ends, empty ones left out), or what \
            --message and --message-hex say. Every reply is printed to standard output as one line, everything else to \
            standard error:

              dtls-client localhost 5684 --psk sensor-1:secret --message hello
              dtls-client example.org 5684 --ca ca.pem --message hello --verbose
              dtls-client coap.example.org 5684 --psk id:hex:00ff10 \\
                  --message-hex 40000001 --hex
              dtls-client localhost 5684 --ca ca.pem \\
                  --certificate me.pem --private-key me.key < lines
              dtls-client localhost 5684 --psk sensor-1:secret \\
                  --resume session --message hello
              dtls-client localhost 5684 --psk sensor-1:secret --verbose \\
                  --rebind-after 1 --message 'from one port' --message 'from another'

            The server's certificate must lead to --ca (the system's roots without it) and be made out to HOST or to \
            --server-name. Or it must be the one of --fingerprint; then nothing else about it counts.

            The program ends with status 0 when as many replies came as --replies says. Without --replies that is one \
            for each --message; for standard input it is one for each line too, but replies that are missing after \
            the timeout only cause a remark. Status 1 is a failure of the handshake or of the connection, 64 is wrong \
            usage.

            Arguments can be seen by every user of the machine. A real client would read its key from a file.
            """
    )

    @Argument(help: "Name or address of the server.")
    var host: String

    @Argument(help: "UDP port of the server.")
    var port: UInt16

    @OptionGroup
    var credentials: ClientCredentialOptions

    @Option(
        help: ArgumentHelp(
            "Resume the session in this file, if there is one, and keep the new one there. Says \"resumed\" or "
                + "\"not resumed\" on standard error. The file holds a secret and is made readable for its owner only.",
            valueName: "file"
        )
    )
    var resume: String?

    @Option(
        help: ArgumentHelp(
            "How long to wait for the handshake, and for replies at the end (default: 10; for the handshake what --preset "
                + "says, if it is given).",
            valueName: "seconds"
        )
    )
    var timeout: Double?

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("Message to send. Repeatable.", valueName: "text")
    )
    var message: [String] = []

    @Option(
        help: ArgumentHelp(
            "Message to send, as hexadecimal digits. Repeatable; these are sent after those of --message.",
            valueName: "digits"
        )
    )
    var messageHex: [String] = []

    @Option(help: ArgumentHelp("Leave after so many replies; 0 sends everything and leaves.", valueName: "number"))
    var replies: Int?

    @Option(
        help: ArgumentHelp(
            "After so many replies, and before the next message, go on from another port, as after a change of networks. A "
                + "server that has given a Connection ID follows.",
            valueName: "number"
        )
    )
    var rebindAfter: Int?

    @Flag(help: "Print replies as hexadecimal digits.")
    var hex = false

    @Flag(help: "Say on standard error what was negotiated and how the connection ended.")
    var verbose = false

    func validate() throws {
        if port == 0 {
            throw ValidationError("the port must be from 1 to 65535")
        }
        if let timeout, !(0.001...86_400).contains(timeout) {
            throw ValidationError("--timeout must be from 0.001 to 86400 seconds")
        }
        if resume == "" {
            throw ValidationError("--resume needs the name of a file")
        }
        if let replies, replies < 0 {
            throw ValidationError("--replies must not be negative")
        }
        if let rebindAfter {
            if rebindAfter < 1 {
                throw ValidationError("--rebind-after must be 1 or more")
            }
            if let replies, replies < rebindAfter {
                throw ValidationError("--rebind-after waits for more replies than --replies does")
            }
        }
        if let messages = try messages(), let rebindAfter, messages.count <= rebindAfter {
            throw ValidationError(
                "--rebind-after \(rebindAfter) needs a message more: after \(rebindAfter) nothing is sent"
            )
        }
    }

    func run() async throws {
        let context = try credentials.context(for: "dtls-client")
        try sessionFile?.check()
        let session = try sessionFile?.load()
        let client = try await DtlsClient.bind()
        let signals = terminationSignals()
        let interruption = Task { () -> Int32? in
            for await signal in signals {
                await client.close()
                return signal
            }
            return nil
        }

        let result: Result<Void, any Error>
        do {
            result = .success(try await talk(through: client, context, resuming: session))
        } catch {
            result = .failure(credentials.withAdvice(error))
        }
        await client.close()

        interruption.cancel()
        if let signal = await interruption.value {
            throw ExitCode(128 + signal)
        }
        try result.get()
    }

    private func talk(
        through client: DtlsClient,
        _ context: DtlsClientContext,
        resuming offered: DtlsSession?
    ) async throws {
        let clock = ContinuousClock()
        let start = clock.now
        let connection = try await client.connect(
            to: host,
            port: port,
            context: context,
            serverName: credentials.serverName,
            timeout: handshakeTimeout,
            session: offered
        )
        note("connected to \(connection.peerAddress) from \(connection.localAddress)")
        note("shook hands in \(milliseconds(clock.now - start)): \(connection.negotiated.summary)")
        describe(connection)
        if connection.negotiated.isResumed {
            Console.note("resumed")
        } else if offered != nil {
            Console.note("not resumed")
        }

        // There is none once the connection has ended, which the server may do at any time.
        let session = connection.session
        let exchange = Exchange(
            connection: connection,
            timeout: replyTimeout,
            wantedReplies: wantedReplies,
            interlude: interlude(connection, through: client)
        )
        let outcome = try await exchange.run(sending: try messages()) { reply in
            Console.print(hex ? hexadecimal(reply) : escapedForTerminal(reply))
        }
        connection.close()
        note("closed \(await connection.waitUntilClosed().summary)")
        try sessionFile?.store(session)
        try judge(outcome)
    }

    /// Goes on from another port, where that was asked for.
    private func interlude(_ connection: DtlsConnection, through client: DtlsClient) -> Exchange.Interlude? {
        guard let rebindAfter else { return nil }
        if connection.negotiated.connectionIDs?.peer.isEmpty ?? true {
            Console.note("dtls-client: without a Connection ID the server will not know this client at another port")
        }
        return Exchange.Interlude(replies: rebindAfter) { [verbose] in
            let former = client.localAddress
            try await client.rebind()
            if verbose {
                Console.note("moved from port \(former.port) to port \(client.localAddress.port)")
            }
        }
    }

    private func describe(_ connection: DtlsConnection) {
        let negotiated = connection.negotiated
        if let certificate = negotiated.peerCertificates.first {
            note("the server showed a \(negotiated.peerSummary)")
            note("its SHA-256 fingerprint is \(certificate.sha256Fingerprint)")
        } else {
            note("the server knows the key of \(negotiated.peerSummary)")
        }
        if let ids = negotiated.connectionIDs {
            note("the own Connection ID is \(digits(ids.own)), the server's is \(digits(ids.peer))")
        } else {
            note("there are no Connection IDs")
        }
        if negotiated.applicationProtocol == nil, !credentials.connectionOptions.alpn.isEmpty {
            note("the server did not choose an application protocol")
        }
        if let keys = try? connection.srtpKeys() {
            let size = "\(keys.sendingKey.count) and a salt of \(keys.sendingSalt.count) bytes"
            note("SRTP has a key of \(size) for each direction")
        } else if !credentials.connectionOptions.srtp.isEmpty {
            note("the server did not choose an SRTP profile")
        }
        note("a message has room for \(connection.maximumPayloadSize) bytes")
    }

    private func digits(_ connectionID: [UInt8]) -> String {
        connectionID.isEmpty ? "empty" : hexadecimal(connectionID)
    }

    private var sessionFile: SessionFile? { resume.map { SessionFile(path: $0) } }

    private var replyTimeout: Duration { .seconds(timeout ?? 10) }

    /// Nil where the preset knows better.
    private var handshakeTimeout: Duration? {
        timeout == nil && credentials.connectionOptions.preset != nil ? nil : replyTimeout
    }

    /// Replies that must come for the run to be a success; nil when that depends on standard input.
    private var wantedReplies: Int? {
        replies ?? (message.isEmpty && messageHex.isEmpty ? nil : message.count + messageHex.count)
    }

    /// The messages given as arguments; nil where standard input is to be read.
    private func messages() throws -> [[UInt8]]? {
        guard !message.isEmpty || !messageHex.isEmpty else { return nil }
        let binary = try messageHex.map { digits in
            guard let message = bytes(hexadecimal: digits) else {
                throw ValidationError("--message-hex wants an even number of hexadecimal digits, not '\(digits)'")
            }
            return message
        }
        let messages = message.map { Array($0.utf8) } + binary
        guard !messages.contains([]) else {
            throw ValidationError("--message and --message-hex must not be empty: nothing would be sent")
        }
        return messages
    }

    /// Throws where replies are missing that had to come, and remarks on those that only could have.
    private func judge(_ outcome: Exchange.Outcome) throws {
        let wanted = wantedReplies ?? outcome.sent
        guard outcome.received < wanted else { return }
        let end =
            switch outcome.end {
            case .timeout: "within \(timeout ?? 10) seconds of the last message"
            case .connectionClosed: "before the server closed the connection"
            case .interrupted: "before this program was told to end"
            }
        let remark = "\(outcome.received) of \(counted(wanted, "reply", plural: "replies")) came \(end)"
        guard wantedReplies == nil else { throw ExampleFailure(remark) }
        Console.note("dtls-client: \(remark)")
    }

    private func note(_ line: String) {
        if verbose {
            Console.note(line)
        }
    }
}
