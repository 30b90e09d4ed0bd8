import DTLSPrimitives

/// Secrets from which servers make the cookies of the hello exchange (RFC 6347 §4.2.1), for hosts that share them: then
/// a client whose two hellos reach two hosts (anycast, a load balancer) passes.
///
/// The first secret makes cookies, all of them verify. Change it every few minutes and keep the one before for as long;
/// whoever knows a secret can pass the exchange with forged addresses. A server that shares with nobody needs none of
/// this: it has a random secret of its own, replaced every minute.
///
/// Everything may be called from any thread.
public final class DtlsCookieSecrets: Sendable {
    /// The length of a secret in bytes: 32.
    public static let secretLength = 32

    private let state: Lock<[DtlsSecretBytes]>

    /// Takes the secrets that hosts share.
    ///
    /// - Parameter secrets: One or more, up to four, of ``secretLength`` random bytes each, the newest first.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` when there is none, there are more, or one has
    ///   another length.
    public init(secrets: [DtlsSecretBytes]) throws(DtlsError) {
        try Self.validate(secrets)
        state = Lock(secrets)
    }

    /// Replaces the secrets, for hellos from now on, in every gate and server that has them. Handshakes under way are
    /// not concerned.
    ///
    /// - Parameter secrets: As in ``init(secrets:)``.
    /// - Throws: As ``init(secrets:)`` does.
    public func replace(secrets: [DtlsSecretBytes]) throws(DtlsError) {
        try Self.validate(secrets)
        state.withLock { $0 = secrets }
    }

    /// A random secret of ``secretLength`` bytes, to be shared with other hosts (`RAND_bytes(3)`).
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/internalFailure`` when there is no randomness.
    public static func randomSecret() throws(DtlsError) -> DtlsSecretBytes {
        try RandomBytes.secret(secretLength)
    }

    private static func validate(_ secrets: [DtlsSecretBytes]) throws(DtlsError) {
        guard (1...4).contains(secrets.count), secrets.allSatisfy({ $0.count == secretLength }) else {
            let message = "one to four cookie secrets of \(secretLength) bytes each are needed"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
    }

    var secrets: [DtlsSecretBytes] { state.withLock { $0 } }
}
