import DTLS

// Both sides name the protocols they speak (ALPN); the server's order decides.
var configuration = DtlsConfiguration()
configuration.applicationProtocols = ["coap", "echo"]
let context = try DtlsClientContext(configuration)
let client = try await DtlsClient.bind()
do {
    let connection = try await client.connect(to: "server.example", port: 5684, context: context)
    switch connection.negotiated.applicationProtocol {
    case "coap": print("CoAP it is")
    case let name?: print("it is \(name)")
    case nil: print("the server does not take part in ALPN")
    }
} catch {
    switch error.code {
    case .noApplicationProtocol: print("the server speaks neither")
    default: print(error)
    }
}
await client.close()
