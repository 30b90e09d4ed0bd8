import DTLS

// Keys without certificates (RFC 7250), each known to the other side by its hash. They need OpenSSL 3.2.
func configuration(of own: DtlsPrivateKey, for peer: DtlsFingerprint) -> DtlsConfiguration {
    var configuration = DtlsConfiguration()
    configuration.rawPublicKeys = .required
    configuration.identity = DtlsIdentity(rawPublicKeyOf: own)
    configuration.trust = .pins([.publicKey(peer)])
    return configuration
}

let sensor = try DtlsPrivateKey(pemFile: "sensor.key")
let gateway = try DtlsPrivateKey(pemFile: "gateway.key")
do {
    let server = try DtlsServerContext(
        configuration(of: gateway, for: sensor.publicKeyFingerprint),
        clientCertificates: .required
    )
    let client = try DtlsClientContext(configuration(of: sensor, for: gateway.publicKeyFingerprint))
    print(server.configuration.rawPublicKeys, client.configuration.rawPublicKeys)
} catch {
    guard error.code == .unsupported else { throw error }
    print("\(DtlsEngineContext.openSSLVersion) has no raw public keys")
}
