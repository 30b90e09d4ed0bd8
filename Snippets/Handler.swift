import DTLS

// Datagrams where they come in, without a task for each connection and without a copy.

let key = try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
let context = try DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([key]))
let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: context)

// All of these closures are called where the server's datagrams come in, and all of its connections wait for them:
// answer at once, or hand a copy over to a task.
server.handleConnections { connection in
    connection.handleDatagrams { connection, datagram in
        // The bytes are lent until this returns.
        _ = try? connection.trySend(datagram)
    } closed: { connection, reason in
        print("\(connection.peerAddress): \(reason)")
    }
}

let client = try await DtlsClient.bind(host: "127.0.0.1")
let clientSide = try DtlsClientContext(preSharedKey: key)
let connection = try await client.connect(to: server.localAddress, context: clientSide)
try await connection.send("an echo, please")
for try await datagram in connection {
    print(String(decoding: datagram, as: UTF8.self))
    break
}
await client.close()
await server.close()
