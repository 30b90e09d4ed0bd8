import DTLS

let key = try DtlsPreSharedKey(identity: "sensor-7", key: Array("a better key than this".utf8))
let context = try DtlsClientContext(preSharedKey: key)
let client = try await DtlsClient.bind()

do {
    let connection = try await client.connect(to: "localhost", port: 5684, context: context)
    print(connection.negotiated.cipherSuite)
    try await connection.send("hello")
    for try await datagram in connection {
        print(String(decoding: datagram, as: UTF8.self))
        break
    }
} catch {
    switch error.code {
    case .handshakeTimedOut: print("nobody answers")
    case .authenticationFailed: print("the server has another key")
    default: print(error)
    }
}
await client.close()
