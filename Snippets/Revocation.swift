import DTLS

// Certificates that were revoked before they expired: lists of the issuers, and responses that servers staple.

// Every certificate of a chain must have a valid list of its issuer, and not be on it. Renew the lists before they
// expire.
var trust = DtlsTrust.certificates(try DtlsCertificate.certificates(pemFile: "ca.pem"))
trust.revocationLists = try DtlsRevocationList.lists(pemFile: "ca.crl.pem")

// A client that wants the issuer's word about the server's certificate, stapled to the handshake (OCSP). With `checked`
// in place of `required` it may be missing; "revoked" ends the handshake either way.
var clientSide = DtlsConfiguration()
clientSide.trust = trust
clientSide.stapledStatus = .required
let clientContext = try DtlsClientContext(clientSide)

// A server that staples. The response (DER) comes from the issuer's responder; new ones go in with `replaceContext`.
func serverContext(staplingResponse response: [UInt8]) throws -> DtlsServerContext {
    var serverSide = DtlsConfiguration()
    serverSide.identity = try DtlsIdentity(certificateFile: "server.pem", privateKeyFile: "server.key")
    serverSide.identity?.ocspResponse = response
    return try DtlsServerContext(serverSide)
}
