import DTLSPrimitives

/// What an association can do in either of its two lives: attached to OpenSSL's `SSL`, or detached from it.
///
/// ``DtlsEngine`` hands every input to the one that it is in. What each input means stands there.
protocol AssociationLife: AnyObject {
    func receive(_ datagram: UnsafeRawBufferPointer, now: Moment) -> DtlsReceipt
    func send(_ payload: UnsafeRawBufferPointer) throws(DtlsError)
    func handleTimeout(now: Moment)
    func close(as reason: DtlsCloseReason)
    func abandon()
    func lowerMTU(to bytes: Int)
    func challengePath(again: Bool) -> Bool

    func drainOutboundBytes(_ body: (UnsafeRawBufferPointer) -> Void)
    func nextEvent() -> DtlsEvent?
    func drainApplicationDataBytes(_ body: (UnsafeRawBufferPointer) -> Void)

    var nextDeadline: Moment? { get }
    var isOpen: Bool { get }
    var closeReason: DtlsCloseReason? { get }
    var statistics: DtlsStatistics { get }
    var negotiated: DtlsNegotiated? { get }
    var maximumPayloadSize: Int { get }
    var mtu: Int { get }
    var checksPaths: Bool { get }
    var isPathChallenged: Bool { get }
    var flow: Flow? { get set }
    var roundTrip: Duration? { get set }

    var session: DtlsSession? { get }
    func exportKeyingMaterial(label: String, context: [UInt8]?, count: Int) throws(DtlsError) -> DtlsSecretBytes
}

/// The addresses that a capture shows.
typealias Flow = (own: DtlsEndpointName, peer: DtlsEndpointName)

/// What a datagram has turned out to be, for those who have to know whether its source may be believed. Receipts
/// compare in the order of what they show.
public enum DtlsReceipt: Int, Sendable, Comparable {
    /// Nothing in it was authentic, or it cannot be told.
    case unknown
    /// The peer has sent it, now or some time ago.
    case authentic
    /// The peer has sent it, after everything else that came: where it came from is where the peer is now, as far as
    /// anybody can tell (RFC 9146 §6). Only ``DtlsRecordLayer/detached`` tells this.
    case newest

    /// Whether `left` shows less than `right`.
    public static func < (left: DtlsReceipt, right: DtlsReceipt) -> Bool { left.rawValue < right.rawValue }
}

extension AssociationLife {
    /// Why nothing can be sent.
    var notOpen: DtlsError {
        guard let reason = closeReason else {
            return DtlsError(.connectionClosed, phase: .handshake, "the handshake is not finished")
        }
        if case .failed(let error) = reason { return error }
        return DtlsError(.connectionClosed, phase: .established, "the connection was \(reason)")
    }

    /// Throws unless a payload can be sent.
    func require(_ payload: UnsafeRawBufferPointer, configuredMTU: Int) throws(DtlsError) {
        guard isOpen else { throw notOpen }
        guard payload.count <= maximumPayloadSize else {
            throw DtlsError(
                .payloadTooLarge,
                phase: .established,
                "a payload of \(payload.count) bytes is larger than \(maximumPayloadSize)",
                hint: mtu < configuredMTU
                    ? "split it: the path carries no more"
                    : "split it, or raise the configuration's mtu if the path carries more"
            )
        }
        guard !payload.isEmpty else {
            let message = "an empty payload cannot be sent: it has 1 to \(maximumPayloadSize) bytes"
            throw DtlsError(.unsupported, phase: .established, message)
        }
    }

    /// Throws unless so many bytes can be exported.
    func requireExportable(_ count: Int, _ label: String, _ context: [UInt8]?) throws(DtlsError) {
        guard isOpen else { throw notOpen }
        guard (1...16_384).contains(count) else {
            throw DtlsError(.invalidConfiguration, phase: .established, "\(count) bytes cannot be exported")
        }
        // OpenSSL's pseudorandom function takes 1,024 bytes, of which both randoms and the context's length are 66.
        guard label.utf8.count + (context?.count ?? 0) <= 958 else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .established,
                "a label of \(label.utf8.count) and a context of \(context?.count ?? 0) bytes are more than 958",
                hint: "use a hash of the context as the context"
            )
        }
    }

    func cannotExport(_ label: String) -> DtlsError {
        OpenSSLErrorQueue.error(
            .invalidConfiguration,
            phase: .established,
            "keying material cannot be exported under the label \(label.sanitized())",
            hint: "labels of TLS itself, such as \"key expansion\", are refused"
        )
    }
}
