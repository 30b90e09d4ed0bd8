/// An alert of the TLS and DTLS protocols (RFC 5246 §7.2), as sent or received.
public struct DtlsAlert: Sendable, Hashable, CustomStringConvertible {
    /// How grave an alert is.
    public enum Level: UInt8, Sendable, Hashable {
        /// The association may go on. `close_notify`, which ends one, is a warning all the same.
        case warning = 1
        /// The association has ended. Every level on the wire but 1 counts as this.
        case fatal = 2
    }

    /// How grave it is.
    public let level: Level

    /// What the alert says.
    public let code: DtlsAlertDescription

    /// Makes an alert.
    public init(level: Level, code: DtlsAlertDescription) {
        self.level = level
        self.code = code
    }

    /// OpenSSL's callbacks give the level in the upper and the code in the lower byte.
    init(packed value: Int32) {
        level = UInt8(truncatingIfNeeded: value >> 8) == 1 ? .warning : .fatal
        code = DtlsAlertDescription(rawValue: UInt8(truncatingIfNeeded: value))
    }

    /// Such as `fatal handshake_failure (40)`.
    public var description: String { "\(level) \(code)" }
}

/// What an alert says: a number of the IANA registry "TLS Alerts".
///
/// Every registered number has a name here; others are kept as they came.
public struct DtlsAlertDescription: RawRepresentable, Sendable, Hashable, CustomStringConvertible {
    /// The number on the wire.
    public let rawValue: UInt8

    /// Makes a description from its number on the wire, registered or not.
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// The peer has no more to send (RFC 5246 §7.2.1).
    public static let closeNotify = Self(rawValue: 0)
    /// A message came that is not appropriate.
    public static let unexpectedMessage = Self(rawValue: 10)
    /// A record could not be authenticated.
    public static let badRecordMac = Self(rawValue: 20)
    /// Decryption failed; reserved since TLS 1.1.
    public static let decryptionFailed = Self(rawValue: 21)
    /// A record was longer than allowed.
    public static let recordOverflow = Self(rawValue: 22)
    /// Decompression failed; reserved.
    public static let decompressionFailure = Self(rawValue: 30)
    /// No acceptable set of parameters was found.
    public static let handshakeFailure = Self(rawValue: 40)
    /// No certificate; SSL 3 only, reserved.
    public static let noCertificate = Self(rawValue: 41)
    /// A certificate was corrupt.
    public static let badCertificate = Self(rawValue: 42)
    /// A certificate was of a kind that is not supported.
    public static let unsupportedCertificate = Self(rawValue: 43)
    /// A certificate was revoked.
    public static let certificateRevoked = Self(rawValue: 44)
    /// A certificate has expired or is not valid yet.
    public static let certificateExpired = Self(rawValue: 45)
    /// Something else was wrong with a certificate.
    public static let certificateUnknown = Self(rawValue: 46)
    /// A field was out of its range.
    public static let illegalParameter = Self(rawValue: 47)
    /// No trusted root was found for a certificate.
    public static let unknownCA = Self(rawValue: 48)
    /// The certificate is valid, but not allowed in.
    public static let accessDenied = Self(rawValue: 49)
    /// A message could not be decoded.
    public static let decodeError = Self(rawValue: 50)
    /// A cryptographic operation of the handshake failed: a signature, a Finished, a key exchange.
    public static let decryptError = Self(rawValue: 51)
    /// Too many ConnectionIds were requested (RFC 9147).
    public static let tooManyCIDsRequested = Self(rawValue: 52)
    /// Export restriction; reserved.
    public static let exportRestriction = Self(rawValue: 60)
    /// The version offered is not supported.
    public static let protocolVersion = Self(rawValue: 70)
    /// The server wants stronger suites.
    public static let insufficientSecurity = Self(rawValue: 71)
    /// Something went wrong that is not the peer's fault.
    public static let internalError = Self(rawValue: 80)
    /// A downgrade was noticed (RFC 7507).
    public static let inappropriateFallback = Self(rawValue: 86)
    /// The user canceled the handshake.
    public static let userCanceled = Self(rawValue: 90)
    /// Renegotiation is refused.
    public static let noRenegotiation = Self(rawValue: 100)
    /// An extension that must be there was not (RFC 8446).
    public static let missingExtension = Self(rawValue: 109)
    /// An extension came that was not asked for.
    public static let unsupportedExtension = Self(rawValue: 110)
    /// A certificate could not be fetched (RFC 6066).
    public static let certificateUnobtainable = Self(rawValue: 111)
    /// The server does not know the name asked for (RFC 6066).
    public static let unrecognizedName = Self(rawValue: 112)
    /// An OCSP response was bad (RFC 6066).
    public static let badCertificateStatusResponse = Self(rawValue: 113)
    /// A certificate did not match its hash (RFC 6066).
    public static let badCertificateHashValue = Self(rawValue: 114)
    /// The server does not know the pre-shared-key identity (RFC 4279).
    public static let unknownPSKIdentity = Self(rawValue: 115)
    /// A client certificate is required (RFC 8446).
    public static let certificateRequired = Self(rawValue: 116)
    /// A general error, when no other alert fits (RFC 9846).
    public static let generalError = Self(rawValue: 117)
    /// No application protocol in common (RFC 7301).
    public static let noApplicationProtocol = Self(rawValue: 120)
    /// Encrypted ClientHello is required (RFC 9849).
    public static let echRequired = Self(rawValue: 121)

    /// The registry's name, or `nil` for a number that is not registered.
    public var name: String? { Self.names[rawValue] }

    /// The registry's name and the number, such as `handshake_failure (40)`.
    public var description: String { "\(name ?? "unknown") (\(rawValue))" }

    private static let names: [UInt8: String] = [
        0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed",
        22: "record_overflow", 30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate",
        42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired",
        46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
        51: "decrypt_error", 52: "too_many_cids_requested", 60: "export_restriction", 70: "protocol_version",
        71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled",
        100: "no_renegotiation", 109: "missing_extension", 110: "unsupported_extension",
        111: "certificate_unobtainable", 112: "unrecognized_name", 113: "bad_certificate_status_response",
        114: "bad_certificate_hash_value", 115: "unknown_psk_identity", 116: "certificate_required",
        117: "general_error", 120: "no_application_protocol", 121: "ech_required",
    ]
}
