import DTLS
import DTLSTestKit

var serverSide = DtlsConfiguration()
serverSide.identity = try DtlsIdentity.selfSigned(commonName: "gadget", names: ["gadget.example"])
var clientSide = DtlsConfiguration()
clientSide.trust = .certificates(serverSide.identity?.certificateChain ?? [])

// A relay on loopback that puts a bad link between any real clients and a server: every fifth datagram is lost, the
// rest come late, some twice.
let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: DtlsServerContext(serverSide))
let bad = DtlsLinkConditions(loss: 0.2, duplication: 0.05, delay: .milliseconds(20) ... .milliseconds(80))
let relay = try DtlsTestRelay(to: server.localAddress, toServer: bad, toClient: bad, seed: 7)
let client = try await DtlsClient.bind()
let context = try DtlsClientContext(clientSide)
let connection = try await client.connect(to: relay.address, context: context, serverName: "gadget.example")
let counts = await relay.counts()
print("through a relay: \(connection.negotiated.cipherSuite), \(counts.toServer.lost + counts.toClient.lost) lost")
await client.close()
await server.close()

// Without sockets: two engines, joined by links that do the same for the same seed.
let engine = try DtlsEngine(client: DtlsEngineContext(client: clientSide), serverName: "gadget.example")
let pair = try DtlsEnginePair(
    client: engine,
    server: DtlsEngineContext(server: serverSide),
    conditions: DtlsLinkConditions(loss: 0.1, reordering: 0.2, corruption: 0.01, mtu: 1_200),
    seed: 5
)
pair.start(now: .now)
let isOpen = await pair.run(within: .seconds(10)) { $0.isOpen }
print("without sockets: \(isOpen ? "open" : "not open"), \(pair.toServer.counts.lost + pair.toClient.counts.lost) lost")
