/// What of a datagram may pass to OpenSSL.
///
/// In its handshake OpenSSL believes whatever comes in clear: one forged alert, one record of an unknown kind or one
/// too short ends it. What cannot be part of an honest peer's flight is dropped here and counted.
struct RecordFilter {
    /// How many epoch-1 records may wait in OpenSSL for the end of the handshake, which keeps each of them in a buffer
    /// of its own.
    static let maximumEarlyRecords = 16

    /// OpenSSL reads at least this many bytes at once.
    private static let maximumSlice = 16_384

    /// The shortest encrypted record that can be authentic: explicit nonce (or IV) and tag.
    var minimumSealedLength = 16

    /// Whether OpenSSL reads sealed records by now, and keeps none: it has had the peer's ChangeCipherSpec and waits
    /// for the Finished.
    var hasKeysOfPeer = false

    private let role: DtlsRole
    private let takesCertificates: Bool
    private let keepsSealed: Bool
    private let connectionID: [UInt8]
    private var earlyRecords = 0

    /// Whether the peer has agreed to put this side's Connection ID into what it seals. Nothing without it is the
    /// peer's then.
    var usesConnectionID = false

    /// How many sealed records have passed.
    private(set) var sealedRecords = 0

    /// - Parameters:
    ///   - role: Whose side this is.
    ///   - takesCertificates: Whether the peer has any business sending certificates.
    ///   - keepsSealed: Whether sealed records are kept from OpenSSL: its Finished until there are keys for it, and all
    ///     others until the handshake is finished.
    ///   - connectionID: What may stand in sealed records of the peer; empty when nothing may.
    init(role: DtlsRole, takesCertificates: Bool = true, keepsSealed: Bool = false, connectionID: [UInt8] = []) {
        self.role = role
        self.takesCertificates = takesCertificates
        self.keepsSealed = keepsSealed
        self.connectionID = connectionID
    }

    /// A fatal alert in clear during the handshake. It may be forged, so it ends nothing by itself.
    private(set) var heldAlert: DtlsAlert?

    /// Where in a datagram records stand that may pass.
    typealias Slices = [Range<Int>]

    /// What ``sift(_:isOpen:into:counting:)`` found.
    struct Findings {
        var hasHandshake = false
        /// Whether there is a sealed message of the handshake: a Finished.
        var hasSealed = false
        /// Where sealed records stand that are to be kept from OpenSSL.
        var kept: [Range<Int>] = []
        /// Where sealed messages of the handshake stand that pass.
        var sealedHandshake: [Range<Int>] = []
    }

    mutating func sift(
        _ datagram: UnsafeRawBufferPointer,
        isOpen: Bool,
        into slices: inout Slices,
        counting drops: inout DtlsDrops
    ) -> Findings {
        var findings = Findings()
        var offset = 0
        var joins = false
        var hasChange = false
        while offset < datagram.count {
            guard let header = RecordHeader(datagram, at: offset, expectedIDLength: connectionID.count) else {
                drops[.malformedRecord] += 1
                break
            }
            let end = offset + header.size + header.length
            let isChange = header.epoch == 0 && header.contentType == ContentType.changeCipherSpec
            let reason: DtlsDropReason? =
                if isChange, hasChange {
                    // An honest flight has one. OpenSSL stops reading at one that comes too early.
                    .malformedRecord
                } else if header.epoch != 0 {
                    objectionToSealed(header, datagram, at: offset, isOpen: isOpen)
                } else if isOpen {
                    .clearRecordWhenOpen
                } else {
                    objectionInClear(header, datagram, bodyAt: offset + RecordHeader.size, &findings)
                }
            if let reason {
                drops[reason] += 1
            } else if header.epoch != 0, keepsFromOpenSSL(header, isOpen: isOpen) {
                findings.kept.append(offset..<end)
                joins = false
            } else {
                if header.epoch != 0, !isOpen, header.contentType == ContentType.handshake {
                    findings.hasSealed = true
                    findings.sealedHandshake.append(offset..<end)
                }
                if header.epoch != 0 { sealedRecords += 1 }
                Self.extend(&slices, with: offset..<end, joins: joins)
                joins = !isChange
                if isChange { hasChange = true }
            }
            offset = end
        }
        if datagram.isEmpty { drops[.malformedRecord] += 1 }
        return findings
    }

    /// Adds a record. Neighbours pass as one piece, as large as OpenSSL's read buffer takes it; not across a
    /// ChangeCipherSpec, at which OpenSSL may stop reading: what follows is better left here than in its buffer.
    static func extend(_ slices: inout Slices, with record: Range<Int>, joins: Bool) {
        if joins, let last = slices.indices.last, slices[last].upperBound == record.lowerBound,
            record.upperBound - slices[last].lowerBound <= maximumSlice
        {
            slices[last] = slices[last].lowerBound..<record.upperBound
        } else {
            slices.append(record)
        }
    }

    /// Why a record in clear may not pass; `nil` when it may.
    private mutating func objectionInClear(
        _ header: RecordHeader,
        _ datagram: UnsafeRawBufferPointer,
        bodyAt start: Int,
        _ findings: inout Findings
    ) -> DtlsDropReason? {
        switch header.contentType {
        case ContentType.handshake:
            guard isWellFormedHandshake(datagram, start..<(start + header.length)) else {
                return .improperHandshakeMessage
            }
            findings.hasHandshake = true
            return nil
        case ContentType.changeCipherSpec:
            return header.length == 1 && datagram[start] == 1 ? nil : .malformedRecord
        case ContentType.alert:
            guard header.length == 2 else { return .malformedRecord }
            // close_notify ends a handshake as well. Other warnings have no consequence.
            let isClose = datagram[start + 1] == DtlsAlertDescription.closeNotify.rawValue
            if datagram[start] == DtlsAlert.Level.fatal.rawValue || isClose {
                heldAlert = DtlsAlert(
                    level: isClose ? .warning : .fatal,
                    code: DtlsAlertDescription(rawValue: datagram[start + 1])
                )
            }
            return .clearAlert
        default:
            // Application data in clear is never anyone's.
            return .clearData
        }
    }

    private func isWellFormedHandshake(_ datagram: UnsafeRawBufferPointer, _ body: Range<Int>) -> Bool {
        var cursor = body.lowerBound
        while cursor < body.upperBound {
            guard let fragment = HandshakeFragment(datagram, at: cursor, end: body.upperBound) else { return false }
            // An empty fragment of a message that is not empty says nothing, and OpenSSL has stumbled over them.
            if fragment.body.isEmpty, fragment.messageLength > 0 { return false }
            guard Self.isFromPeer(fragment.type, of: role), isWithinBounds(fragment) else { return false }
            cursor = fragment.body.upperBound
        }
        return !body.isEmpty
    }

    /// How many bytes of messages that are not whole may be kept: the largest that may come, and something for the
    /// others.
    var maximumReassembly: Int {
        switch (role, takesCertificates) {
        case (.client, _): 131_072
        case (.server, true): 81_920
        case (.server, false): 24_576
        }
    }

    /// Whether a message can be part of an honest flight.
    private func isWithinBounds(_ fragment: HandshakeFragment) -> Bool {
        switch (role, fragment.type) {
        // ServerHello to Finished, a HelloVerifyRequest before them.
        case (.client, 11): fragment.messageSequence <= 15 && fragment.messageLength <= 102_400
        case (.client, _): fragment.messageSequence <= 15 && fragment.messageLength <= 65_536
        // Two hellos, Certificate, ClientKeyExchange, CertificateVerify, Finished.
        case (.server, 1): fragment.messageSequence <= 6 && fragment.messageLength <= 16_384
        case (.server, 11): fragment.messageSequence <= 6 && takesCertificates && fragment.messageLength <= 65_536
        case (.server, _): fragment.messageSequence <= 6 && fragment.messageLength <= 2_560
        }
    }

    /// Whether the peer of `role` sends such messages in clear (RFC 5246 §7.4). What is reflected or invented is not
    /// its own.
    private static func isFromPeer(_ type: UInt8, of role: DtlsRole) -> Bool {
        switch (role, type) {
        // ServerHello, HelloVerifyRequest, NewSessionTicket, Certificate, ServerKeyExchange, CertificateRequest,
        // ServerHelloDone, CertificateStatus
        case (.client, 2), (.client, 3), (.client, 4), (.client, 11...14), (.client, 22): true
        // ClientHello, Certificate, CertificateVerify, ClientKeyExchange
        case (.server, 1), (.server, 11), (.server, 15), (.server, 16): true
        default: false
        }
    }

    /// Why a sealed record may not pass; `nil` when it may.
    private mutating func objectionToSealed(
        _ header: RecordHeader,
        _ datagram: UnsafeRawBufferPointer,
        at offset: Int,
        isOpen: Bool
    ) -> DtlsDropReason? {
        guard header.epoch == 1 else { return .improperSealedRecord }
        guard header.length >= minimumSealedLength else { return .undersizedRecord }
        if header.contentType == ContentType.connectionID {
            guard datagram[header.connectionID(at: offset)].elementsEqual(connectionID) else {
                return .improperSealedRecord
            }
        } else {
            guard (ContentType.changeCipherSpec...ContentType.applicationData).contains(header.contentType),
                !usesConnectionID
            else { return .improperSealedRecord }
        }
        if !isOpen, !hasKeysOfPeer, !keepsFromOpenSSL(header, isOpen: isOpen) {
            guard earlyRecords < Self.maximumEarlyRecords else { return .earlyRecordLimit }
            earlyRecords += 1
        }
        return nil
    }

    /// Whether a sealed record that may pass is not for OpenSSL, at least not now.
    private func keepsFromOpenSSL(_ header: RecordHeader, isOpen: Bool) -> Bool {
        if header.contentType == ContentType.connectionID { return true }
        // OpenSSL keeps a buffer of its own for each that comes before the keys, of up to 17 KB (CVE-2026-54874).
        return keepsSealed && !isOpen && (header.contentType != ContentType.handshake || !hasKeysOfPeer)
    }

    /// Counts a sealed record that was kept and passes now.
    mutating func countSealed() { sealedRecords += 1 }

    /// Forgets a held alert, because the peer went on with the handshake.
    mutating func dismissHeldAlert() {
        heldAlert = nil
    }

    /// Lets another ``maximumEarlyRecords`` pass: the peer is answering a flight that was sent again.
    mutating func renewEarlyRecords() {
        earlyRecords = 0
    }
}
