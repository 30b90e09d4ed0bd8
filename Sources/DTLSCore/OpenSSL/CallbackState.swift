import COpenSSL
import Synchronization

/// What a peer has presented in vain, for the error that tells of it.
enum RefusedCredential {
    /// The names and addresses of a certificate, none of which was the expected one.
    case names([String])
    /// The hashes that pins know; a raw public key has no certificate.
    case fingerprints(certificate: DtlsFingerprint?, key: DtlsFingerprint)
}

/// What OpenSSL's callbacks may see and change of an association. They find it behind the `SSL`'s ex_data; they never
/// throw, never call back into the engine and never run a user's closure: they leave questions and answers here.
final class CallbackState {
    /// Kept alive for as long as its `SSL` may ask for anything in it.
    let context: DtlsEngineContext

    /// The answer to the question for a pre-shared key: not yet, none, or this.
    enum PreSharedKeyAnswer {
        case pending
        case none
        case key(DtlsPreSharedKey)
        /// Of a server's look-up: the key of the identity that the client gave.
        case secret(DtlsSecretBytes)
    }

    /// Where the application's verdict over the peer's certificates stands.
    enum Decision {
        case notAsked
        case asked
        case accepted
        case rejected
    }

    var preSharedKey = PreSharedKeyAnswer.pending
    /// The identity for which a server's application was asked.
    var requestedIdentity: [UInt8]?
    var preSharedKeyWasUsed = false
    /// What the peer is to put into its records; nil when Connection IDs are neither offered nor accepted.
    var ownConnectionID: [UInt8]?
    /// What the peer's hello has asked for.
    var peerConnectionID: [UInt8]?
    /// Whether both hellos have said so.
    var agreesOnConnectionIDs = false
    /// Whether the peer knows return routability checks, and whether both hellos have said so.
    var peerChecksPaths = false
    var agreesOnPathChecks = false
    var alertSent: DtlsAlert?
    var alertReceived: DtlsAlert?
    var verdict: DtlsCertificateVerdict?
    /// What the peer has presented, where that was refused for its name or because no pin matches.
    var refused: RefusedCredential?
    /// Everything that is wrong with the chain, where the application decides.
    var verdicts: [DtlsCertificateVerdict] = []
    /// How often OpenSSL's timer has expired, and a flight was sent again. It looks at its timer whenever it reads.
    var timeouts = 0
    /// How often it has since the flight under way was first sent.
    var timeoutsOfFlight = 0
    /// How many flights have been sent, each for the first time.
    var flights = 0
    /// How long the wait lasts that OpenSSL's timer is at, in microseconds.
    var wait: UInt32 = 0
    /// How many waits have begun.
    var waits = 0
    /// How long the path takes there and back, where it is known.
    var roundTrip: Duration?
    /// The own identity: the configuration's, or the one chosen for this peer.
    var identity: DtlsIdentity?
    var decision = Decision.notAsked
    var presentedCertificates: [DtlsCertificate] = []
    var presentedKey: DtlsFingerprint?
    /// Lines in NSS's format, until the engine hands them out.
    var keyLogLines: [String] = []
    /// Sessions that OpenSSL wants stored, until the engine hands them out.
    var establishedSessions: [DtlsStoredSession] = []
    /// What a store had under the ID that the client offered.
    var offeredSession: DtlsSecretBytes?

    /// What both hellos have agreed on; nil when there is no ID in either direction.
    var negotiatedConnectionIDs: DtlsNegotiatedConnectionIDs? {
        guard agreesOnConnectionIDs, let ownConnectionID, let peerConnectionID,
            !ownConnectionID.isEmpty || !peerConnectionID.isEmpty
        else { return nil }
        return DtlsNegotiatedConnectionIDs(own: ownConnectionID, peer: peerConnectionID)
    }

    /// The suite of which ``sealedOverhead(of:)`` was asked last, and the answer.
    private var knownSuite: (pointer: OpaquePointer, overhead: Int?)?

    /// What records of a suite are longer than their payload, in bytes. OpenSSL's suites are constants, so their
    /// pointers stand for them.
    func sealedOverhead(of cipher: OpaquePointer?) -> Int? {
        guard let cipher else { return nil }
        if let knownSuite, knownSuite.pointer == cipher { return knownSuite.overhead }
        let overhead = SSL_CIPHER_get_name(cipher).flatMap { DtlsCipherSuite.sealedOverhead(named: $0) }
        knownSuite = (cipher, overhead)
        return overhead
    }

    init(context: DtlsEngineContext) {
        self.context = context
        identity = context.configuration.identity
    }

    /// Begins the wait that follows one of `previous` microseconds (0: a flight's first), and returns how long it
    /// lasts.
    func beginWait(after previous: UInt32) -> UInt32 {
        if previous > 0 {
            timeouts += 1
            timeoutsOfFlight += 1
        } else {
            timeoutsOfFlight = 0
            flights += 1
        }
        let policy = context.configuration.retransmission
        wait = policy.timeout(after: previous, roundTrip: roundTrip)
        waits += 1
        guard policy.jitter > 0 else { return wait }
        var spread = Spread()
        let varied = Double(wait) * Double.random(in: (1 - policy.jitter)...(1 + policy.jitter), using: &spread)
        // Below 15 ms OpenSSL takes a timer for expired.
        wait = UInt32(clamping: Int64(Swift.max(varied, 16_000)))
        return wait
    }

    /// What keeps waits that began together from ending together (SplitMix64). It may be guessed, so that the system is
    /// not asked for randomness in each handshake.
    private struct Spread: RandomNumberGenerator {
        private static let state = Atomic(UInt64.random(in: .min ... .max))

        mutating func next() -> UInt64 {
            var value = Self.state.wrappingAdd(0x9E37_79B9_7F4A_7C15, ordering: .relaxed).newValue
            value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
            return value ^ value >> 31
        }
    }

    /// The index of the ex_data slot that holds it.
    private static let index = COpenSSL_SSL_get_ex_new_index()

    /// Lets the callbacks of `ssl` find this object, which the caller keeps alive for as long as `ssl` lives.
    func attach(to ssl: OpaquePointer) throws(DtlsError) {
        let set = SSL_set_ex_data(ssl, Self.index, Unmanaged.passUnretained(self).toOpaque())
        try OpenSSLErrorQueue.check(set, "SSL_set_ex_data", phase: .handshake)
        DTLS_set_timer_cb(ssl, retransmissionTimer)
    }

    static func of(_ ssl: OpaquePointer?) -> CallbackState? {
        guard let ssl, let data = SSL_get_ex_data(ssl, index) else { return nil }
        return Unmanaged<CallbackState>.fromOpaque(data).takeUnretainedValue()
    }
}
