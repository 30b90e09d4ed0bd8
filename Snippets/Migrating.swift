import DTLS

// What dtls2 and Network.framework have, here.

let key = Array("0123456789abcdef".utf8)

// snippet.dtls2
let context = try DtlsClientContext(.iotConstrained, preSharedKey: DtlsPreSharedKey(identity: "client", key: key))
let client = try await DtlsClient.bind()
let connection = try await client.connect(to: "coap.example", port: 5684, context: context, timeout: .seconds(10))
try await connection.send("hello")
for try await datagram in connection { print(datagram.count) }
print(connection.closeReason.map { "\($0)" } ?? "open")
await client.close()
// snippet.end

// snippet.network
var options = DtlsConfiguration()
options.minimumVersion = .v1_2
options.cipherSuites = .suites([.ecdheECDSAWithAES128GCM])
options.applicationProtocols = ["coap"]
let parameters = try DtlsClientContext(
    options,
    verification: .byApplication,
    acceptsCertificates: { presented in presented.verdicts.isEmpty }
)
let endpoint = try await DtlsClient.bind()
let network = try await endpoint.connect(to: "server.example", port: 5684, context: parameters)
// snippet.end
print(network.negotiated.cipherSuite)
