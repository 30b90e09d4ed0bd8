import DTLS

// Associations that outlive their peer's address and their own process.

let keys = DtlsPreSharedKeyStore([try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))])
let serverSide = try DtlsServerContext(DtlsConfiguration(), preSharedKeys: keys)
let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: serverSide)
let address = server.localAddress

// Both sides have agreed on a Connection ID (RFC 9146), because that is the default: the client may go on from another
// port, another interface, another network.
let client = try await DtlsClient.bind(host: "127.0.0.1")
let key = try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
let clientSide = try DtlsClientContext(DtlsConfiguration(), preSharedKey: key)
let connection = try await client.connect(to: address, context: clientSide)
var held: DtlsConnection?
try await client.rebind(host: "127.0.0.1")
try await connection.send("the same association, from another port")
for await device in server {
    for try await datagram in device {
        print(String(decoding: datagram, as: UTF8.self), "from \(device.peerAddress)")
        break
    }
    // Who holds it no more closes it.
    held = device
    break
}
print("moved \(server.statistics.peerMoves) time(s)")

// A planned restart: the old server's associations under a key that the new one has, and the socket, in which
// datagrams wait meanwhile. (Another process would get both by a file, a pipe or a socket.)
let handOverKey = try DtlsHandOverKey.random()
await server.stopReading()
let handOver = try server.exportAssociations(under: handOverKey)
let socket = try await server.handOverSocket()
let successor = try DtlsServer(
    socket: socket,
    takesOwnership: true,
    context: serverSide,
    associations: DtlsSealedAssociations(bytes: handOver.bytes, key: handOverKey)
)
try await connection.send("and it has not noticed that the server is another one")
for await device in successor {
    for try await datagram in device {
        print(String(decoding: datagram, as: UTF8.self))
        break
    }
    break
}
await client.close()
await successor.close()
