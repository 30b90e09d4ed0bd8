import DTLS

// A server with a certificate, whose clients must show one as well.
var serverSide = DtlsConfiguration()
serverSide.identity = try DtlsIdentity(certificateFile: "server.pem", privateKeyFile: "server.key")
serverSide.trust = .certificates(try DtlsCertificate.certificates(pemFile: "client-ca.pem"))
let serverContext = try DtlsServerContext(serverSide, clientCertificates: .required)

// Their counterpart. The server's name is verified, against the host name unless serverName says otherwise.
var clientSide = DtlsConfiguration()
clientSide.identity = try DtlsIdentity(certificateFile: "client.pem", privateKeyFile: "client.key")
clientSide.trust = .certificates(try DtlsCertificate.certificates(pemFile: "server-ca.pem"))
let clientContext = try DtlsClientContext(clientSide)
