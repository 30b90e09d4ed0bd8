/// Why a datagram, a record or a payload was dropped. More reasons may come, so keep a `default`.
///
/// ``DtlsDrops`` counts by it. Engines know those of records; those of datagrams and queues come from module DTLS, but
/// for ``waitingForApplication``.
public struct DtlsDropReason: Sendable, Hashable, CustomStringConvertible {
    let kind: Kind

    /// The reason's name, such as `undersizedRecord`.
    public var description: String { "\(kind)" }

    // MARK: Datagrams, before any association

    /// It belongs to no association and is no hello.
    public static let unknownPeer = Self(kind: .unknownPeer)
    /// The server's `admitsAddress` (`DtlsServer.bind`) has refused its source.
    public static let refusedAddress = Self(kind: .refusedAddress)
    /// Its source's prefix has had its share of cookies (`DtlsServerLimits.cookieRatePerPrefix`).
    public static let cookieRate = Self(kind: .cookieRate)
    /// Its source's prefix has had its share of handshakes (`DtlsServerLimits.handshakeRatePerPrefix`,
    /// `handshakesPerPrefix`).
    public static let handshakeRate = Self(kind: .handshakeRate)
    /// A hello, when all connections that there may be are there and none is stale (`DtlsServerLimits.connections`).
    public static let connectionLimit = Self(kind: .connectionLimit)
    /// A hello that cannot be answered: malformed, a fragment without its beginning, of another protocol.
    public static let unusableHello = Self(kind: .unusableHello)
    /// A hello that came again after its handshake was finished or, for five seconds, refused; in the latter case the
    /// alert goes out again.
    public static let repeatedHello = Self(kind: .repeatedHello)
    /// A hello, while the server drains (`DtlsServer.drain(for:)`).
    public static let draining = Self(kind: .draining)

    // MARK: Records, before a cipher sees them

    /// No header of a record, or one that claims more than there is; an empty datagram; an alert or a ChangeCipherSpec
    /// in clear that is none.
    public static let malformedRecord = Self(kind: .malformedRecord)
    /// In clear, when the association is open: alerts, hellos, data. Forged, or late, as a flight is that a client has
    /// sent again while its key was looked up.
    public static let clearRecordWhenOpen = Self(kind: .clearRecordWhenOpen)
    /// An alert in clear during the handshake. A fatal one, and close_notify, are kept in mind, in case that nothing
    /// else comes.
    public static let clearAlert = Self(kind: .clearAlert)
    /// Application data, or something of no known type, in clear.
    public static let clearData = Self(kind: .clearData)
    /// A message of the handshake that an honest peer would not send: of its other role, too large, malformed, or a
    /// fragment that fits none that was ever whole.
    public static let improperHandshakeMessage = Self(kind: .improperHandshakeMessage)
    /// Of an epoch that is not in use, of an unknown type or version, with a Connection ID that is not this side's, or
    /// without one where one was negotiated (RFC 9146 §3).
    public static let improperSealedRecord = Self(kind: .improperSealedRecord)
    /// Sealed, and shorter than its tag: no key is needed to know that it is forged.
    public static let undersizedRecord = Self(kind: .undersizedRecord)
    /// Sealed, during the handshake, and more than are kept until its end: some 16 records and 32 KiB.
    public static let earlyRecordLimit = Self(kind: .earlyRecordLimit)

    /// A fragment of a message that was given up before it was whole, because no more is kept.
    public static let reassemblyLimit = Self(kind: .reassemblyLimit)

    // MARK: Records, by the cipher

    /// Sealed, and not opened: forged, a copy of one that came before, too old, or without consequence, as a repeated
    /// Finished (while a key was looked up, for instance) or a warning is. One that came too early is counted when the
    /// handshake is finished.
    public static let unopenedRecord = Self(kind: .unopenedRecord)

    // MARK: Queues

    /// A datagram that came while the handshake waited for the application, more than are kept: 8, of up to 8,192 bytes
    /// each. And each that came while it was asked about a hello (``DtlsEvent/helloReceived(_:)``): at best it is that
    /// hello again.
    public static let waitingForApplication = Self(kind: .waitingForApplication)
    /// A payload that nobody read in time (`DtlsQueueLimits`).
    public static let receiveQueueFull = Self(kind: .receiveQueueFull)
    /// A datagram that the socket had no room for, and its backlog of 1,024 datagrams and 1 MiB neither, or for which
    /// the interface or the system had none (`ENOBUFS`, `ENOMEM`).
    public static let sendQueueFull = Self(kind: .sendQueueFull)
    /// A datagram to an address where the peer has not yet shown to be, beyond three times what has come from there
    /// (RFC 9853).
    public static let unprovenPath = Self(kind: .unprovenPath)
    /// A datagram that came to another loop of the server than its connection's, more than wait to be handed over:
    /// 1,024 of 1 MiB together.
    public static let loopQueueFull = Self(kind: .loopQueueFull)

    /// All of them, in the order in which ``DtlsDrops/nonZero`` has them.
    public static let allCases = Kind.allCases.map { Self(kind: $0) }

    /// In the order of the constants above. Those of records stand together.
    enum Kind: Int, CaseIterable {
        case unknownPeer, refusedAddress, cookieRate, handshakeRate, connectionLimit, unusableHello, repeatedHello,
            draining
        case malformedRecord, clearRecordWhenOpen, clearAlert, clearData, improperHandshakeMessage, improperSealedRecord
        case undersizedRecord, earlyRecordLimit, reassemblyLimit
        case unopenedRecord
        case waitingForApplication, receiveQueueFull, sendQueueFull, unprovenPath, loopQueueFull
    }
}

/// Counts by ``DtlsDropReason``.
public struct DtlsDrops: Sendable, Hashable, CustomStringConvertible {
    // One place for each reason; empty until something is counted, so that quiet associations have no array.
    private var counts: [Int] = []

    /// Makes a value with all counts at zero.
    public init() {}

    /// How many were dropped for a reason; 0 when none were.
    public subscript(reason: DtlsDropReason) -> Int {
        get { counts.isEmpty ? 0 : counts[reason.kind.rawValue] }
        set {
            if counts.isEmpty {
                guard newValue != 0 else { return }
                counts = [Int](repeating: 0, count: DtlsDropReason.Kind.allCases.count)
            }
            counts[reason.kind.rawValue] = newValue
        }
    }

    /// The sum over all reasons.
    public var total: Int { counts.reduce(0, +) }

    /// The reasons that there were, with their counts, in the order of ``DtlsDropReason/allCases``.
    public var nonZero: [(reason: DtlsDropReason, count: Int)] {
        DtlsDropReason.allCases.compactMap { self[$0] > 0 ? ($0, self[$0]) : nil }
    }

    /// The reasons that there were, with their counts, such as `unknownPeer: 1, unopenedRecord: 2`; `none` when nothing
    /// was dropped.
    public var description: String {
        let counts = nonZero.map { "\($0.reason): \($0.count)" }
        return counts.isEmpty ? "none" : counts.joined(separator: ", ")
    }

    /// Adds the counts of `other`, reason by reason.
    public mutating func add(_ other: DtlsDrops) {
        guard !counts.isEmpty, !other.counts.isEmpty else {
            if counts.isEmpty { counts = other.counts }
            return
        }
        for index in counts.indices { counts[index] += other.counts[index] }
    }

    /// Of records that never reached a cipher.
    var records: Int {
        guard !counts.isEmpty else { return 0 }
        return counts[DtlsDropReason.Kind.malformedRecord.rawValue...DtlsDropReason.Kind.reassemblyLimit.rawValue]
            .reduce(0, +)
    }
}
