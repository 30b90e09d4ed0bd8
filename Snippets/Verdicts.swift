import DTLS

// The certificate is chosen by the name that the client asks for, and the application has the last word about the
// client's own.
let identities = [
    "a.example": try DtlsIdentity.selfSigned(commonName: "a", names: ["a.example"]),
    "b.example": try DtlsIdentity.selfSigned(commonName: "b", names: ["b.example"]),
]
var configuration = DtlsConfiguration()
configuration.trust = .certificates(try DtlsCertificate.certificates(pemFile: "client-ca.pem"))
let context = try DtlsServerContext(
    configuration,
    clientCertificates: .required,
    identityFor: { offer in identities[offer.serverName ?? ""] },
    acceptsCertificates: { presented in presented.certificates.first?.dnsNames.contains("allowed.example") == true }
)
