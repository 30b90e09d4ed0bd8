import DTLS
import ExampleSupport

/// One server and one client, each with what it needs to trust the other.
struct Meeting {
    let title: String
    let serverContext: DtlsServerContext
    let clientContext: DtlsClientContext
    /// The name the client wants to see in the server's certificate.
    var serverName: String?

    /// Both sides know the same secret. The identity tells the server which of its secrets the client means.
    static func withPreSharedKey(_ capture: DtlsCapture?) throws -> Meeting {
        let key = try DtlsPreSharedKey(identity: "newcomer", key: Array("correct horse battery".utf8))
        var clientConfiguration = DtlsConfiguration()
        clientConfiguration.capture = capture
        return Meeting(
            title: "With a pre-shared key",
            serverContext: try DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([key])),
            clientContext: try DtlsClientContext(clientConfiguration, preSharedKey: key)
        )
    }

    /// The server has a certificate it signed itself. The client trusts that certificate and no other, and checks
    /// that it was made out to the name it wants to reach.
    static func withCertificate(_ capture: DtlsCapture?) throws -> Meeting {
        let identity = try DtlsIdentity.selfSigned(commonName: "localhost", names: ["localhost"])

        var serverConfiguration = DtlsConfiguration()
        serverConfiguration.identity = identity
        var clientConfiguration = DtlsConfiguration()
        clientConfiguration.trust = .certificates(identity.certificateChain)
        clientConfiguration.capture = capture

        return Meeting(
            title: "With a certificate",
            serverContext: try DtlsServerContext(serverConfiguration),
            clientContext: try DtlsClientContext(clientConfiguration),
            serverName: "localhost"
        )
    }

    func run() async throws {
        Console.print(title)
        let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: serverContext)
        say("server", "listens on \(server.localAddress)")
        async let served: Void = answerOneClient(of: server)
        try await greet(server.localAddress)
        try await served
        await server.close()
        say("server", "stops listening")
    }

    /// The client: connects, says two things, hears the answers, leaves.
    private func greet(_ address: DtlsAddress) async throws {
        let client = try await DtlsClient.bind(host: "127.0.0.1")
        say("client", "will speak from \(client.localAddress)")

        let clock = ContinuousClock()
        let start = clock.now
        let connection = try await client.connect(to: address, context: clientContext, serverName: serverName)
        say("client", "shook hands in \(milliseconds(clock.now - start))")
        describe(connection)

        var answers = connection.makeAsyncIterator()
        for message in ["Hello over UDP!", "Nobody else can read this."] {
            say("client", "sends    \"\(message)\"")
            try await connection.send(message)
            guard let answer = try await answers.next() else {
                throw ExampleFailure("the server closed the connection without an answer")
            }
            say("client", "receives \"\(escapedForTerminal(answer))\"")
        }

        connection.close()
        say("client", "is closed \(await connection.waitUntilClosed().summary)")
        await client.close()
    }

    /// The server: takes one connection and answers what comes until the client closes it.
    private func answerOneClient(of server: DtlsServer) async throws {
        for await connection in server {
            let client = connection.negotiated.preSharedKeyIdentity.map { "\"\(escapedForTerminal($0))\"" }
            for try await datagram in connection {
                let text = escapedForTerminal(datagram)
                say("server", "receives \"\(text)\" from \(client ?? "an anonymous client")")
                try await connection.send("You said: \(text)")
            }
            say("server", "sees it closed \(await connection.waitUntilClosed().summary)")
            return
        }
    }

    private func describe(_ connection: DtlsConnection) {
        let negotiated = connection.negotiated
        detail("version", "\(negotiated.version)")
        detail("suite", "\(negotiated.cipherSuite.name)")
        detail("group", negotiated.group ?? "none")
        if let identity = negotiated.preSharedKeyIdentity {
            detail("identity", "\"\(escapedForTerminal(identity))\"")
        }
        if let certificate = negotiated.peerCertificates.first {
            detail("server", "\(certificate.subject), verified to be \(serverName ?? "nobody in particular")")
            detail("SHA-256", "\(certificate.sha256Fingerprint)")
        }
        detail("room", "\(connection.maximumPayloadSize) bytes a message")
    }

    private func say(_ who: String, _ what: String) {
        Console.print("  \(who)  \(what)")
    }

    private func detail(_ name: String, _ value: String) {
        Console.print("            \(padded(name, to: 10))\(value)")
    }

    private func padded(_ text: String, to width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }
}
