import COpenSSL
import DTLSPrimitives

/// The keys of session tickets (RFC 5077), which a server gives to clients so that they resume without a full
/// handshake.
///
/// Hosts behind one load balancer that share the same secrets resume each other's clients. The first secret seals new
/// tickets, all of them open old ones. Whoever knows a secret can read the traffic of every session whose ticket it
/// sealed, so change it often (hours, not weeks) and keep the previous one for as long as tickets live.
///
/// Everything may be called from any thread.
public final class DtlsTicketKeys: Sendable {
    /// The length of a secret in bytes: 80, of which 16 name the key in tickets, and are no secret (RFC 5077 §4).
    public static let secretLength = 80

    static let nameLength = 16

    private let state: Lock<State>
    private let rotationInterval: Duration?

    private struct State: Sendable {
        /// The newest first.
        var keys: [TicketKey]
        var rotatesAt: Moment
    }

    /// Makes keys of this process's own: random, replaced every `rotationInterval`, the previous one kept for as long
    /// again. They change when a handshake needs one; no timer runs.
    ///
    /// - Parameter rotationInterval: One minute to one week. Default: one hour.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` for an interval out of its range,
    ///   ``DtlsError/Code-swift.struct/internalFailure`` when there is no randomness.
    public init(rotatingEvery rotationInterval: Duration = .seconds(3_600)) throws(DtlsError) {
        guard rotationInterval >= .seconds(60), rotationInterval <= .seconds(604_800) else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "ticket keys cannot rotate every \(rotationInterval): one minute to one week is possible"
            )
        }
        self.rotationInterval = rotationInterval
        let key = try TicketKey(secret: Self.randomSecret())
        state = Lock(State(keys: [key], rotatesAt: .now + rotationInterval))
    }

    /// Makes keys from secrets that hosts share.
    ///
    /// - Parameter secrets: One or more, of ``secretLength`` random bytes each, the newest first.
    /// - Throws: ``DtlsError/Code-swift.struct/invalidConfiguration`` when there is none or one has another length.
    public init(secrets: [DtlsSecretBytes]) throws(DtlsError) {
        rotationInterval = nil
        state = Lock(State(keys: try Self.keys(secrets), rotatesAt: .now))
    }

    /// Replaces the secrets, for tickets from now on. Connections are not concerned.
    ///
    /// Keys that rotate go on to: after their interval a random one takes the place of `secrets`.
    ///
    /// - Parameter secrets: As in ``init(secrets:)``.
    /// - Throws: As ``init(secrets:)`` does.
    public func replace(secrets: [DtlsSecretBytes]) throws(DtlsError) {
        let keys = try Self.keys(secrets)
        state.withLock { $0.keys = keys }
    }

    /// A random secret of ``secretLength`` bytes, to be shared with other hosts (`RAND_bytes(3)`).
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/internalFailure`` when there is no randomness.
    public static func randomSecret() throws(DtlsError) -> DtlsSecretBytes {
        try RandomBytes.secret(secretLength)
    }

    private static func keys(_ secrets: [DtlsSecretBytes]) throws(DtlsError) -> [TicketKey] {
        guard !secrets.isEmpty else {
            throw DtlsError(.invalidConfiguration, phase: .configuration, "there is no ticket secret")
        }
        var keys: [TicketKey] = []
        for secret in secrets { keys.append(try TicketKey(secret: secret)) }
        return keys
    }

    /// The key for a new ticket.
    func encryptionKey(now: Moment = .now) -> TicketKey {
        state.withLock { state in
            rotate(&state, now)
            return state.keys[0]
        }
    }

    private func rotate(_ state: inout State, _ now: Moment) {
        guard let rotationInterval, now >= state.rotatesAt, let secret = try? Self.randomSecret(),
            let fresh = try? TicketKey(secret: secret)
        else { return }
        // After a long silence the last key is older than tickets may be.
        let previous = now < state.rotatesAt + rotationInterval ? [state.keys[0]] : []
        state.keys = [fresh] + previous
        state.rotatesAt = now + rotationInterval
    }

    /// The key that sealed a ticket, if it is still there, and whether it is the one for new tickets.
    func decryptionKey(
        named name: UnsafeRawBufferPointer,
        now: Moment = .now
    ) -> (key: TicketKey, isNewest: Bool)? {
        let copy = Array(name)
        return state.withLock { state in
            rotate(&state, now)
            guard let index = state.keys.firstIndex(where: { $0.name == copy }) else { return nil }
            return (state.keys[index], index == 0)
        }
    }
}

/// One secret: a name that tickets carry in clear, a key for AES-256-CBC and one for HMAC-SHA256 (RFC 5077 §4).
struct TicketKey: Sendable {
    // Fetched once and never changed; OpenSSL's algorithms may be used by any number of threads. Where OpenSSL is given
    // its own constant it fetches for each ticket.
    private nonisolated(unsafe) static let cipher = EVP_CIPHER_fetch(nil, "AES-256-CBC", nil)

    let name: [UInt8]
    private let secret: DtlsSecretBytes

    init(secret: DtlsSecretBytes) throws(DtlsError) {
        guard secret.count == DtlsTicketKeys.secretLength else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "a ticket secret has \(secret.count) bytes instead of \(DtlsTicketKeys.secretLength)"
            )
        }
        self.secret = secret
        name = secret.withUnsafeBytes { Array($0[..<DtlsTicketKeys.nameLength]) }
    }

    /// Sets up OpenSSL's contexts for one ticket.
    func install(
        _ cipher: OpaquePointer?,
        _ mac: OpaquePointer?,
        _ vector: UnsafeMutablePointer<UInt8>,
        isEncrypting: Bool
    ) -> Bool {
        secret.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return false }
            let aes = start + DtlsTicketKeys.nameLength
            let hmac = aes + 32
            return EVP_CipherInit_ex(cipher, Self.cipher, nil, aes, vector, isEncrypting ? 1 : 0) == 1
                && COpenSSL_set_ticket_hmac(mac, hmac, 32) == 1
        }
    }
}
