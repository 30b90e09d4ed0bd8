import DTLS

// Servers behind one load balancer share the secrets of their tickets, so that each resumes the others' clients.
let secret = try DtlsTicketKeys.randomSecret()
let keys = try DtlsTicketKeys(secrets: [secret])
var serverSide = DtlsConfiguration()
serverSide.identity = try DtlsIdentity.selfSigned(commonName: "gadget", names: ["gadget.example"])
let context = try DtlsServerContext(serverSide, resumption: .tickets(keys))
let server = try await DtlsServer.bind(port: 0, context: context)

// A client keeps the session and shows it at the next connect, which is a round trip shorter.
var clientSide = DtlsConfiguration()
clientSide.trust = .certificates(serverSide.identity?.certificateChain ?? [])
let clientContext = try DtlsClientContext(clientSide)
var session: DtlsSession?
for _ in 0..<2 {
    let client = try await DtlsClient.bind()
    let connection = try await client.connect(
        to: "localhost",
        port: server.localAddress.port,
        context: clientContext,
        serverName: "gadget.example",
        session: session
    )
    print(connection.negotiated.isResumed ? "resumed" : "a full handshake")
    session = connection.session
    await client.close()
}
await server.close()
