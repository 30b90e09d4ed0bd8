import DTLSCore

// WebRTC without a socket of this library: ICE has it.

// snippet.demultiplex
/// What a datagram on the one socket of a WebRTC session is (RFC 7983 §7).
enum Packet {
    case stun, dtls, turnChannel, rtp, unknown

    init(_ datagram: [UInt8]) {
        self =
            switch datagram.first ?? .max {
            case 0...3: .stun
            case 20...63: .dtls
            case 64...79: .turnChannel
            case 128...191: .rtp
            default: .unknown
            }
    }
}
// snippet.end

// snippet.identity
let identity = try DtlsIdentity.selfSigned(commonName: "WebRTC", validity: .seconds(30 * 86_400))
let fingerprint = identity.certificateChain[0].sha256Fingerprint
let attribute = "a=fingerprint:sha-256 \(fingerprint)"
// snippet.end

// snippet.remote
/// The fingerprint in what stands behind `a=fingerprint:`, such as `sha-256 AB:CD:…`; `nil` for another hash.
func remoteFingerprint(in value: String) -> DtlsFingerprint? {
    let parts = value.split(separator: " ")
    guard parts.count == 2, parts[0].lowercased() == "sha-256" else { return nil }
    return DtlsFingerprint(String(parts[1]))
}
// snippet.end

// snippet.engine
/// An engine for one peer connection.
///
/// - Parameters:
///   - role: `active` in the answer of a=setup (RFC 8842) makes a client, `passive` a server.
///   - remote: What the peer's session description says in its a=fingerprint line.
///   - roundTrip: What ICE has measured.
func makeEngine(
    as role: DtlsRole,
    remote: DtlsFingerprint,
    identity: DtlsIdentity,
    roundTrip: Duration?
) throws(DtlsError) -> DtlsEngine {
    var configuration = DtlsConfiguration.webRTC
    configuration.identity = identity
    configuration.trust = .pins([.certificate(remote)])
    let engine: DtlsEngine
    switch role {
    case .client:
        let context = try DtlsEngineContext(client: configuration)
        engine = try DtlsEngine(client: context, serverName: nil)
    case .server:
        var settings = DtlsServerSettings()
        settings.clientCertificates = .required
        let context = try DtlsEngineContext(server: configuration, settings: settings)
        // No gate: nobody but the peer that ICE has checked gets this far.
        engine = try DtlsEngine(server: context, hello: nil)
    }
    engine.roundTrip = roundTrip
    return engine
}
// snippet.end

// snippet.keys
/// What SRTP needs, once the engine has raised `handshakeFinished`.
func mediaKeys(of engine: DtlsEngine) throws(DtlsError) -> DtlsSRTPKeys {
    // The profile is in the keys, too.
    try engine.srtpKeys()
}
// snippet.end

print(attribute, Packet([22]))
let remote = remoteFingerprint(in: "sha-256 \(fingerprint)") ?? fingerprint
let engine = try makeEngine(as: .client, remote: remote, identity: identity, roundTrip: .milliseconds(40))
engine.start()
print(try mediaKeys(of: engine).profile)
