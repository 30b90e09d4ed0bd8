import COpenSSL

/// What a handshake has settled. It is a snapshot that never changes.
public struct DtlsNegotiated: Sendable {
    // One object for all that hold it: the engine, the connection, and whoever got the event.
    private let storage: Storage

    /// The version of the protocol.
    public var version: DtlsVersion { storage.version }

    /// The cipher suite.
    public var cipherSuite: DtlsCipherSuite { storage.cipherSuite }

    /// The group of the key exchange in OpenSSL's spelling, which depends on its version, such as `x25519` or
    /// `secp256r1`; `nil` where there was none (plain pre-shared keys).
    public var group: String? { storage.group }

    /// The algorithm with which this side has signed the handshake, or `nil` where it signed nothing: clients without a
    /// certificate, pre-shared keys, resumed sessions.
    ///
    /// It is one of the constants of ``DtlsSignatureAlgorithm`` where there is one for it, however the configuration
    /// spells it.
    public var signatureAlgorithm: DtlsSignatureAlgorithm? { storage.signatureAlgorithm }

    /// The algorithm with which the peer has signed the handshake, or `nil` where it signed nothing.
    public var peerSignatureAlgorithm: DtlsSignatureAlgorithm? { storage.peerSignatureAlgorithm }

    /// The certificates that the peer presented, its own first. Empty when it presented none.
    ///
    /// They were verified as the context demands it, before anything was exposed. After a resumption they are those of
    /// the session, as far as it has them.
    public var peerCertificates: [DtlsCertificate] { storage.peerCertificates }

    /// The SHA-256 hash of the peer's public key (SubjectPublicKeyInfo), of its certificate or raw (RFC 7250); `nil`
    /// when it presented neither.
    public var peerPublicKeyFingerprint: DtlsFingerprint? { storage.peerPublicKeyFingerprint }

    /// The pre-shared-key identity that the client used, or `nil` where certificates were used. It is the peer's text:
    /// escape it before showing it.
    public var preSharedKeyIdentity: [UInt8]? { storage.preSharedKeyIdentity }

    /// The application protocol (RFC 7301), one of the own configuration's on servers, or `nil` where none was
    /// negotiated.
    public var applicationProtocol: String? { storage.applicationProtocol }

    /// The SRTP profile (RFC 5764), or `nil` where none was negotiated.
    public var srtpProfile: DtlsSRTPProfile? { DtlsSRTPProfile.all.first { $0.id == storage.srtpProfile } }

    /// The DNS name of the server that the client asked for (RFC 6066 §3), or `nil` where it asked for none, and on an
    /// engine that was made without a hello (``DtlsEngine/init(server:hello:usesIPv6:)``) when a session was resumed.
    public var serverName: String? { storage.serverName }

    /// What the client offered, as a server saw it; `nil` on clients, on servers without a ``DtlsHelloGate``, and after
    /// a hand-over.
    public var clientOffer: DtlsClientOffer? { storage.clientOffer }

    /// The Connection IDs (RFC 9146), or `nil` where none were negotiated: the peer does not know them, one side does
    /// not want them, or both take part and neither wants an ID of its own.
    public var connectionIDs: DtlsNegotiatedConnectionIDs? { storage.connectionIDs }

    /// Whether an earlier session was resumed.
    public var isResumed: Bool { storage.isResumed }

    private final class UnknownSuite: Sendable {
        let suite: DtlsCipherSuite
        init(_ suite: DtlsCipherSuite) { self.suite = suite }
    }

    /// What there is to know, in one place.
    final class Storage: Sendable {
        let version: DtlsVersion
        private let suite: UInt16
        // None of the constants.
        private let unknownSuite: UnknownSuite?
        var cipherSuite: DtlsCipherSuite {
            unknownSuite?.suite ?? DtlsCipherSuite.constants.first { [suite] in $0.id == suite } ?? DtlsCipherSuite(nil)
        }
        let group: String?
        let signatureAlgorithm: DtlsSignatureAlgorithm?
        let peerSignatureAlgorithm: DtlsSignatureAlgorithm?
        let peerCertificates: [DtlsCertificate]
        let peerPublicKeyFingerprint: DtlsFingerprint?
        let preSharedKeyIdentity: [UInt8]?
        let applicationProtocol: String?
        /// The number of the profile; 0 where there is none.
        let srtpProfile: UInt16
        let serverName: String?
        let clientOffer: DtlsClientOffer?
        let connectionIDs: DtlsNegotiatedConnectionIDs?
        let isResumed: Bool

        init(
            version: DtlsVersion,
            cipherSuite: DtlsCipherSuite,
            group: String?,
            signatureAlgorithm: DtlsSignatureAlgorithm?,
            peerSignatureAlgorithm: DtlsSignatureAlgorithm?,
            peerCertificates: [DtlsCertificate],
            peerPublicKeyFingerprint: DtlsFingerprint?,
            preSharedKeyIdentity: [UInt8]?,
            applicationProtocol: String?,
            srtpProfile: UInt16,
            serverName: String?,
            clientOffer: DtlsClientOffer?,
            connectionIDs: DtlsNegotiatedConnectionIDs?,
            isResumed: Bool
        ) {
            self.version = version
            suite = cipherSuite.id
            let isKnown = DtlsCipherSuite.constants.contains { $0.id == cipherSuite.id }
            unknownSuite = isKnown ? nil : UnknownSuite(cipherSuite)
            self.group = group
            self.signatureAlgorithm = signatureAlgorithm
            self.peerSignatureAlgorithm = peerSignatureAlgorithm
            self.peerCertificates = peerCertificates
            self.peerPublicKeyFingerprint = peerPublicKeyFingerprint
            self.preSharedKeyIdentity = preSharedKeyIdentity
            self.applicationProtocol = applicationProtocol
            self.srtpProfile = srtpProfile
            self.serverName = serverName
            self.clientOffer = clientOffer
            self.connectionIDs = connectionIDs
            self.isResumed = isResumed
        }
    }

    init(
        of ssl: OpaquePointer,
        role: DtlsRole,
        preSharedKeyIdentity: [UInt8]?,
        clientOffer: DtlsClientOffer?,
        connectionIDs: DtlsNegotiatedConnectionIDs?
    ) {
        let groupID = COpenSSL_SSL_get_negotiated_group(ssl)
        let certificates = Self.peerCertificates(of: ssl, role: role)
        let rawKey = COpenSSL_SSL_get0_peer_rpk(ssl)
        storage = Storage(
            version: DtlsVersion(wireValue: UInt16(truncatingIfNeeded: SSL_version(ssl))),
            cipherSuite: DtlsCipherSuite(SSL_get_current_cipher(ssl)),
            group: groupID > 0 ? COpenSSL_SSL_group_to_name(ssl, groupID).map { String(cString: $0) } : nil,
            signatureAlgorithm: DtlsSignatureAlgorithm(of: ssl, peer: false),
            peerSignatureAlgorithm: DtlsSignatureAlgorithm(of: ssl, peer: true),
            peerCertificates: certificates,
            peerPublicKeyFingerprint: rawKey.map { DtlsFingerprint(sha256Of: X509Text.publicKeyInfo(ofKey: $0)) }
                ?? certificates.first?.publicKeyFingerprint,
            preSharedKeyIdentity: preSharedKeyIdentity,
            applicationProtocol: Self.applicationProtocol(of: ssl),
            srtpProfile: COpenSSL_SSL_selected_srtp_profile(ssl),
            // OpenSSL knows none on a server that resumes.
            serverName: SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) }
                ?? clientOffer?.serverName,
            clientOffer: clientOffer,
            connectionIDs: connectionIDs,
            isResumed: SSL_session_reused(ssl) == 1
        )
    }

    init(_ storage: Storage) {
        self.storage = storage
    }

    private static func applicationProtocol(of ssl: OpaquePointer) -> String? {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &name, &count)
        guard let name, count > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: name, count: Int(count)), as: UTF8.self)
    }

    private static func peerCertificates(of ssl: OpaquePointer, role: DtlsRole) -> [DtlsCertificate] {
        guard let pointer = SSL_get1_peer_certificate(ssl) else { return [] }
        let leaf = OwnedX509(takingOwnershipOf: pointer)
        guard let first = try? DtlsCertificate(borrowing: leaf.pointer) else { return [] }
        var chain = [first]
        let others = SSL_get_peer_cert_chain(ssl)
        // OpenSSL's chain starts with the leaf on clients and behind it on servers.
        let start: Int32 = role == .client ? 1 : 0
        let count = COpenSSL_sk_X509_num(others)
        if start < count {
            for index in start..<count {
                guard let pointer = COpenSSL_sk_X509_value(others, index),
                    let certificate = try? DtlsCertificate(borrowing: pointer)
                else { continue }
                chain.append(certificate)
            }
        }
        return chain
    }
}

extension DtlsSignatureAlgorithm {
    /// What one side of a finished handshake has signed with (RFC 5246 §7.4.3 and §7.4.8).
    fileprivate init?(of ssl: OpaquePointer, peer: Bool) {
        var kind: Int32 = 0
        var digest: Int32 = 0
        guard COpenSSL_SSL_get_signature(ssl, peer ? 1 : 0, &kind, &digest) == 1, kind != NID_undef else { return nil }
        func name(_ nid: Int32) -> String { OBJ_nid2sn(nid).map { String(cString: $0) } ?? "\(nid)" }
        let text =
            switch kind {
            case NID_X9_62_id_ecPublicKey: "ECDSA+" + name(digest)
            case NID_rsaEncryption: "RSA+" + name(digest)
            // In DTLS 1.2 the certificate's key says which of the two kinds of RSA-PSS it is; ordinary RSA keys are
            // what there is.
            case NID_rsassaPss: "rsa_pss_rsae_" + name(digest).lowercased()
            default: name(kind).lowercased()
            }
        // The constants' texts need no memory.
        self = Self.constants.first { $0.name == text } ?? DtlsSignatureAlgorithm(openSSLName: text)
    }
}

extension DtlsCipherSuite {
    init(_ cipher: OpaquePointer?) {
        let id = cipher.map { SSL_CIPHER_get_protocol_id($0) } ?? 0
        // The constants' texts need no memory.
        if let known = Self.constants.first(where: { $0.id == id }) {
            self = known
            return
        }
        self.init(
            id,
            cipher.flatMap { SSL_CIPHER_standard_name($0) }.map { String(cString: $0) } ?? "unknown",
            cipher.flatMap { SSL_CIPHER_get_name($0) }.map { String(cString: $0) } ?? "unknown"
        )
    }

    /// Whether the key exchange of `cipher` involves a pre-shared key.
    static func usesPreSharedKey(_ cipher: OpaquePointer?) -> Bool {
        guard let cipher else { return false }
        return switch SSL_CIPHER_get_kx_nid(cipher) {
        case NID_kx_psk, NID_kx_ecdhe_psk, NID_kx_dhe_psk, NID_kx_rsa_psk: true
        default: false
        }
    }

    /// What the AEAD suites add to a payload beside the header: explicit nonce and tag, in bytes. Nil for others.
    ///
    /// AES-GCM: RFC 5288 §3; AES-CCM: RFC 6655 §3 and §4; ChaCha20-Poly1305, which has no explicit nonce: RFC 7905 §2.
    ///
    /// - Parameter name: The suite's name in OpenSSL.
    static func sealedOverhead(named name: UnsafePointer<CChar>) -> Int? {
        // In C: searching a String took a hundredth of a handshake.
        if strstr(name, "CHACHA20") != nil { return 16 }
        if strstr(name, "CCM8") != nil { return 8 + 8 }
        if strstr(name, "GCM") != nil || strstr(name, "CCM") != nil { return 8 + 16 }
        return nil
    }
}
