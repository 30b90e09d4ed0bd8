import DTLS

// RADIUS over DTLS (RFC 7360) and syslog over DTLS (RFC 6012).

// snippet.radius-server
var serverSide = DtlsConfiguration()
serverSide.identity = try DtlsIdentity(certificateFile: "radius.pem", privateKeyFile: "radius.key")
var trust = DtlsTrust.certificates(try DtlsCertificate.certificates(pemFile: "nas-ca.pem"))
trust.revocationLists = try DtlsRevocationList.lists(pemFile: "nas-ca.crl.pem")
serverSide.trust = trust
let allowed: Set<String> = ["nas-1.example", "nas-2.example"]
let context = try DtlsServerContext(
    serverSide,
    clientCertificates: .required,
    acceptsCertificates: { presented in
        presented.certificates.first.map { !allowed.isDisjoint(with: $0.dnsNames) } ?? false
    }
)
var limits = DtlsServerLimits()
limits.idleTimeout = .seconds(600)
let server = try await DtlsServer.bind(port: 2083, context: context, limits: limits)
// snippet.end

// snippet.radius-client
var clientSide = DtlsConfiguration()
clientSide.identity = try DtlsIdentity(certificateFile: "nas-1.pem", privateKeyFile: "nas-1.key")
clientSide.trust = .certificates(try DtlsCertificate.certificates(pemFile: "radius-ca.pem"))
// A RADIUS packet has up to 4,096 bytes; IP fragments what the path does not carry in one piece.
clientSide.mtu = 4_400
let client = try await DtlsClient.bind()
let radius = try await client.connect(
    to: "radius.example",
    port: 2083,
    context: DtlsClientContext(clientSide),
    reconnection: .whenSilent(for: .seconds(30))
)
// snippet.end

// snippet.syslog
/// One message in each datagram, and the length of each before it (`SYSLOG-FRAME`, RFC 6012).
func send(_ message: String, on connection: DtlsConnection) async throws(DtlsError) {
    let text = Array(message.utf8)
    try await connection.send(Array("\(text.count) ".utf8) + text)
}
// snippet.end

// snippet.refresh
/// A sender that hears nothing cannot notice that its collector was restarted: it connects anew from time to time, and
/// resumes its session.
func refreshed(_ old: DtlsConnection, _ context: DtlsClientContext) async throws(DtlsError) -> DtlsConnection {
    let session = old.session
    old.close()
    let client = try await DtlsClient.bind()
    return try await client.connect(
        to: "collector.example",
        port: 6514,
        context: context,
        session: session
    )
}
// snippet.end

try await send("<34>1 2026-01-01T00:00:00Z host app - - - hello", on: radius)
_ = try await refreshed(radius, DtlsClientContext(clientSide))
await client.close()
await server.close()
