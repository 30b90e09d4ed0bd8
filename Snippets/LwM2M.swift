import DTLS

// Constrained devices: CCM8, Connection IDs, sleep.

let keys = DtlsPreSharedKeyStore([try DtlsPreSharedKey(identity: "device-1", key: Array("0123456789abcdef".utf8))])

// snippet.server
var configuration = DtlsConfiguration.iotConstrained
configuration.connectionIDs = .random(length: 6)
var limits = DtlsServerLimits()
limits.connections = 200_000
limits.staleAfter = .seconds(7 * 86_400)
// For devices that know no Connection IDs and whose NAT gives them another port.
limits.movedPeerTrials = 16
let context = try DtlsServerContext(configuration, preSharedKeys: keys)
let server = try await DtlsServer.bind(port: 5684, context: context, limits: limits)
// snippet.end

// snippet.handler
server.handleConnections { device in
    device.handleDatagrams { device, datagram in
        // Answer at once, from a table in memory, or hand a copy over to a task.
        _ = try? device.trySend(datagram)
    } closed: { device, reason in
        print("\(device.peerAddress): \(reason)")
    }
}
// snippet.end

// snippet.device
let key = try DtlsPreSharedKey(identity: "device-1", key: Array("0123456789abcdef".utf8))
let deviceSide = try DtlsClientContext(.iotConstrained, preSharedKey: key)
let client = try await DtlsClient.bind()
let connection = try await client.connect(to: "lwm2m.example", port: 5684, context: deviceSide)
print(connection.negotiated.cipherSuite, connection.negotiated.connectionIDs?.peer.count ?? 0)
// snippet.end

// snippet.wake
/// After a sleep of hours the NAT has forgotten the device, and it may be in another network.
func wake(_ client: DtlsClient, _ connection: DtlsConnection) async throws(DtlsError) {
    try await client.rebind()
    // The server learns of the new address by the next datagram.
    try await connection.send("still here")
}
// snippet.end

// snippet.balancer
/// IDs in which a load balancer reads the number of the server.
func balanced(server number: UInt8) -> DtlsConnectionIDs {
    .generated(length: 8) {
        var generator = SystemRandomNumberGenerator()
        return [number] + (0..<7).map { _ in generator.next() }
    }
}
// snippet.end

// snippet.restart
/// Associations for the process that comes next, and how many must make a new handshake.
func handOver(_ server: DtlsServer, under key: DtlsHandOverKey) async throws(DtlsError) -> [UInt8] {
    await server.stopReading()
    let handOver = try server.exportAssociations(under: key)
    print("\(handOver.count) go on, \(handOver.remaining) do not")
    return handOver.bytes
}
// snippet.end

configuration.connectionIDs = balanced(server: 3)
try await wake(client, connection)
print(try await handOver(server, under: .random()).count)
await client.close()
await server.close()
