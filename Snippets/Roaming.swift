import DTLS

// Associations that outlive their peer's address and their own process.

let keys = DtlsPreSharedKeyStore([try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))])
let serverSide = try DtlsServerContext(DtlsConfiguration(), preSharedKeys: keys)
let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: serverSide)
let address = server.localAddress

let client = try await DtlsClient.bind(host: "127.0.0.1")
let key = try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
let clientSide = try DtlsClientContext(DtlsConfiguration(), preSharedKey: key)
let connection = try await client.connect(to: address, context: clientSide)

// Both sides have agreed on a Connection ID for the server (RFC 9146), because that is the default: the client may go
// on from another port, another interface, another network.
try await client.rebind(host: "127.0.0.1")
try await connection.send("the same association, from another port")

// A connection that nobody holds any more is closed: this one is to outlive the loop.
var held: DtlsConnection?
for await device in server {
    held = device
    for try await datagram in device {
        print(String(decoding: datagram, as: UTF8.self), "from \(device.peerAddress)")
        break
    }
    break
}
print("moved \(server.statistics.peerMoves) time(s)")

// A planned restart: the old server's associations under a key that the new one has, and the socket, in which
// datagrams wait meanwhile. (Another process gets the sealed bytes and the key, `DtlsHandOverKey.bytes`, by a file or a
// pipe, and makes the key anew with `DtlsHandOverKey(_:)`. The socket is a descriptor: a child inherits it, others get
// it by SCM_RIGHTS.)
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
