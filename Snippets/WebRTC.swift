import DTLS

// A peer that is known by the fingerprint in its session description, whoever signed its certificate.
func context(for fingerprint: DtlsFingerprint, as me: DtlsIdentity) throws -> DtlsClientContext {
    var configuration = DtlsConfiguration.webRTC
    configuration.identity = me
    configuration.trust = .pins([.certificate(fingerprint)])
    return try DtlsClientContext(configuration)
}

// The keys of SRTP, by direction, once connected.
func keys(of connection: DtlsConnection) throws -> DtlsSRTPKeys {
    try connection.srtpKeys()
}

// Every datagram and the secrets that decrypt it, for Wireshark: one line.
var configuration = DtlsConfiguration.webRTC
configuration.capture = try DtlsCapture(file: "session.pcapng")
