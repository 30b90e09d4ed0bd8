/// Why something failed, and what to do about it.
///
/// One type for everything that this package throws. Switch over ``code-swift.property``; show ``description``, one
/// line that names what happened, the alert, the certificate's verdict, OpenSSL's own reasons and a hint. No part of it
/// ever carries a key, and in that line text that came from a peer has its control characters replaced.
///
/// ```swift
/// do {
///     connection = try await client.connect(to: "gadget.local", port: 5684, context: context)
/// } catch where error.code == .handshakeTimedOut {
///     // nobody answered
/// }
/// ```
public struct DtlsError: Error, Sendable, Hashable, CustomStringConvertible {
    private let storage: Storage

    package init(
        _ code: Code,
        phase: Phase? = nil,
        _ message: String,
        hint: String? = nil,
        alertSent: DtlsAlert? = nil,
        alertReceived: DtlsAlert? = nil,
        certificateVerdict: DtlsCertificateVerdict? = nil,
        openSSLErrors: [DtlsOpenSSLError] = [],
        systemError: Int32? = nil
    ) {
        storage = Storage(
            fields: Fields(
                code: code,
                phase: phase,
                message: message,
                hint: hint,
                alertSent: alertSent,
                alertReceived: alertReceived,
                certificateVerdict: certificateVerdict,
                openSSLErrors: openSSLErrors,
                systemError: systemError
            )
        )
    }

    /// What kind of failure it was.
    public var code: Code { storage.fields.code }

    /// What was being done; `nil` where that says no more than the code.
    public var phase: Phase? { storage.fields.phase }

    /// What happened, in one line, in English. It is for people and may change: switch over ``code-swift.property``.
    public var message: String { storage.fields.message }

    /// What to do about it; `nil` when nothing is known to help.
    public var hint: String? { storage.fields.hint }

    /// The alert that told the peer; `nil` when it was told nothing.
    public var alertSent: DtlsAlert? { storage.fields.alertSent }

    /// The alert with which the peer told us, if it did. One of a handshake may have come in clear: then anybody may
    /// have sent it.
    public var alertReceived: DtlsAlert? { storage.fields.alertReceived }

    /// What OpenSSL, or the pins, had against the peer's certificate; set with
    /// ``DtlsError/Code-swift.struct/certificateRejected`` only, and see there.
    public var certificateVerdict: DtlsCertificateVerdict? { storage.fields.certificateVerdict }

    /// What OpenSSL's error queue held, oldest first: eight entries at the most, often none.
    public var openSSLErrors: [DtlsOpenSSLError] { storage.fields.openSSLErrors }

    /// The `errno` of the system call that failed, if one did.
    public var systemError: Int32? { storage.fields.systemError }

    /// Everything in one line: the message, alerts, verdict, OpenSSL's reasons and the hint.
    public var description: String {
        var text = message
        if let alert = alertSent { text += "; alert sent: \(alert.code)" }
        if let alert = alertReceived { text += "; alert received: \(alert.code)" }
        if let verdict = certificateVerdict { text += "; certificate: \(verdict)" }
        if !openSSLErrors.isEmpty {
            text += "; OpenSSL: " + openSSLErrors.map(\.description).joined(separator: ", ")
        }
        if let hint { text += " (\(hint))" }
        return text
    }

    /// Errors are equal when everything that they say is.
    public static func == (left: DtlsError, right: DtlsError) -> Bool {
        left.storage === right.storage || left.storage.fields == right.storage.fields
    }

    /// Hashes everything that is compared.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(storage.fields)
    }

    // One reference, so that typed throws stay as cheap as a pointer.
    private final class Storage: Sendable {
        let fields: Fields
        init(fields: Fields) { self.fields = fields }
    }

    private struct Fields: Sendable, Hashable {
        let code: Code
        let phase: Phase?
        let message: String
        let hint: String?
        let alertSent: DtlsAlert?
        let alertReceived: DtlsAlert?
        let certificateVerdict: DtlsCertificateVerdict?
        let openSSLErrors: [DtlsOpenSSLError]
        let systemError: Int32?
    }
}

extension DtlsError {
    /// What kind of failure it was. More kinds may come, so keep a `default`.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        /// The kind's name, such as `handshakeTimedOut`.
        public let description: String

        private init(_ name: String) { description = name }

        /// A setting or argument is out of its range, or settings contradict each other. Thrown while contexts and
        /// endpoints are made, by a call whose arguments cannot be, and by handshakes for which the application gave a
        /// certificate or a Connection ID that cannot be used.
        public static let invalidConfiguration = Code("invalidConfiguration")
        /// A certificate or a revocation list could not be read, or there is none.
        public static let invalidCertificate = Code("invalidCertificate")
        /// A private key could not be read or found, or its passphrase is missing or wrong.
        public static let invalidPrivateKey = Code("invalidPrivateKey")
        /// A private key does not belong to the certificate that it came with.
        public static let privateKeyMismatch = Code("privateKeyMismatch")
        /// A pre-shared key or its identity has a length or a byte that cannot be used.
        public static let invalidPreSharedKey = Code("invalidPreSharedKey")
        /// A file could not be read, or one for captures or key logs not be opened for writing;
        /// ``DtlsError/systemError`` says why. It is `EFBIG` for one of credentials that has more than 16 MiB.
        public static let fileUnreadable = Code("fileUnreadable")
        /// The linked OpenSSL, the system, or this association cannot do what was asked: DTLS 1.3 before OpenSSL 4.1,
        /// several loops where the system does not spread peers, an empty payload, SRTP keys where no profile was
        /// negotiated, a hand-over of what lives in OpenSSL.
        public static let unsupported = Code("unsupported")
        /// A host name cannot be looked up, or has no address that the socket can reach.
        public static let nameResolutionFailed = Code("nameResolutionFailed")
        /// Another program holds the address to bind to.
        public static let addressInUse = Code("addressInUse")
        /// A socket could not be made, bound or used; ``DtlsError/systemError`` says why, where the system did.
        public static let socketFailed = Code("socketFailed")
        /// A client that verifies names was not told the server's name, or an empty one.
        public static let missingServerName = Code("missingServerName")
        /// The socket already has a connection to this peer that was made with another context or server name.
        public static let peerAlreadyConnected = Code("peerAlreadyConnected")
        /// The peers could not agree, or one of them broke the protocol.
        public static let handshakeFailed = Code("handshakeFailed")
        /// The handshake was not finished within its time (``DtlsConfiguration/handshakeTimeout``), or its flights were
        /// sent as often as they may be (``DtlsRetransmissionPolicy/maximumAttempts``).
        public static let handshakeTimedOut = Code("handshakeTimedOut")
        /// The server's host or a router answered that it cannot be reached, or this machine has no route to it;
        /// ``DtlsError/systemError`` says which: `ECONNREFUSED` when nobody listens at the port, `EHOSTUNREACH` or
        /// `ENETUNREACH` when there is no way to the host, `EPERM` when a firewall on this machine refuses. Only
        /// connects fail with it, and only before the server has answered; never an association that is open.
        public static let peerUnreachable = Code("peerUnreachable")
        /// A certificate was not accepted by the peer (``DtlsError/alertReceived`` is set then) or by this side:
        /// ``DtlsError/certificateVerdict`` says why, unless the application refused one that OpenSSL had nothing
        /// against, or a client presented none where one is required.
        public static let certificateRejected = Code("certificateRejected")
        /// The pre-shared keys of the two sides differ, the identity is unknown, or a client's application had no key.
        public static let authenticationFailed = Code("authenticationFailed")
        /// The peers have no application protocol in common (ALPN, RFC 7301).
        public static let noApplicationProtocol = Code("noApplicationProtocol")
        /// A payload is larger than ``DtlsEngine/maximumPayloadSize``, which may have become less because the path
        /// carries less than the configuration says. The association is unharmed.
        public static let payloadTooLarge = Code("payloadTooLarge")
        /// The association has sealed as many records as its keys are good for, or refused as many forged ones, and has
        /// ended; a new handshake makes new keys.
        ///
        /// In one direction that is, with full records, 389 GB of AES-GCM, 137 GB of AES-CCM, and more than any
        /// association sends of ChaCha20-Poly1305 (RFC 9147 §4.5.3). Only ``DtlsRecordLayer/detached`` counts.
        public static let keysUsedUp = Code("keysUsedUp")
        /// The bytes of a hand-over are none, are of an unknown version or the other role, sealed with another key,
        /// damaged, expired, or were taken already.
        public static let handOverRefused = Code("handOverRefused")
        /// The connection, client or server was closed before this could be done, or the association is not open yet.
        /// An association that was open has failed with it when the peer ended it with a fatal alert
        /// (``DtlsError/alertReceived``) or OpenSSL could not seal a record.
        public static let connectionClosed = Code("connectionClosed")
        /// The waiting task was cancelled.
        public static let cancelled = Code("cancelled")
        /// OpenSSL or the system failed in a way that it should not, for want of memory or randomness most likely.
        public static let internalFailure = Code("internalFailure")
    }

    /// What was being done.
    public enum Phase: Sendable, Hashable {
        /// Credentials were read, a context was made from a configuration, or a hand-over was sealed or opened.
        case configuration
        /// A host name was looked up.
        case resolution
        /// A socket was made, bound or taken over.
        case binding
        /// An association was begun: the peers agreed and authenticated each other.
        case handshake
        /// Datagrams were exchanged, or something else was asked of an open association.
        case established
        /// The client had been closed.
        case closing
    }

    /// Lets `catch DtlsError.Code.payloadTooLarge` match an error by its code where throws are typed.
    public static func ~= (code: Code, error: DtlsError) -> Bool {
        error.code == code
    }
}

extension DtlsError.Code {
    /// Lets `catch DtlsError.Code.payloadTooLarge` match any error that is a ``DtlsError`` of this code.
    public static func ~= (code: DtlsError.Code, error: any Error) -> Bool {
        (error as? DtlsError)?.code == code
    }
}

extension DtlsError {
    /// The value of a property is out of its range.
    package static func outOfRange(
        _ property: String,
        _ value: some CustomStringConvertible,
        use range: String
    ) -> DtlsError {
        DtlsError(.invalidConfiguration, phase: .configuration, "\(property) is \(value)", hint: "use \(range)")
    }
}

/// What is wrong with a certificate (`X509_verify_cert_error_string(3)`).
public struct DtlsCertificateVerdict: Sendable, Hashable, CustomStringConvertible {
    /// OpenSSL's number, one of `X509_V_ERR_…`.
    public let code: Int

    /// OpenSSL's text for it, or this library's where pins or a stapled OCSP response were the reason.
    public let reason: String

    /// Where in the chain the fault is: 0 is the peer's own certificate.
    public let depth: Int

    /// The subject of the certificate with the fault, if it is known, as RFC 2253 writes it. It is the peer's text:
    /// escape it before showing it.
    public let subject: String?

    /// Such as `self-signed certificate (18) at depth 0, CN=localhost`.
    public var description: String {
        "\(reason) (\(code)) at depth \(depth)" + (subject.map { ", " + $0.sanitized() } ?? "")
    }
}

/// An entry of OpenSSL's error queue (`ERR_get_error_all(3)`).
public struct DtlsOpenSSLError: Sendable, Hashable, CustomStringConvertible {
    /// The packed number, as `openssl errstr` explains it.
    public let code: UInt

    /// OpenSSL's reason, such as `no shared cipher`.
    public let reason: String

    /// What OpenSSL added to it, often empty.
    public let detail: String

    /// The reason, and the detail if there is one.
    public var description: String { detail.isEmpty ? reason : "\(reason): \(detail)" }
}

extension String {
    /// The text with control characters replaced and its length bounded, fit for one line of a log.
    package func sanitized(limit: Int = 256) -> String {
        var result = ""
        for (index, scalar) in unicodeScalars.enumerated() {
            if index == limit {
                result += "…"
                break
            }
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
                result += "\\u{" + String(scalar.value, radix: 16) + "}"
            default:
                result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
