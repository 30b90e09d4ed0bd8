/// Which Connection IDs to ask for (RFC 9146).
///
/// A Connection ID stands in each sealed record and says to which association it belongs, so that an association
/// outlives the addresses of its peer: a client behind a NAT that has forgotten it, or that has moved to another
/// network, goes on where it was. Each side tells the other one in its hello which ID to put into records for it; an
/// empty one says "none for me, but I can write yours".
///
/// They need ``DtlsRecordLayer/detached`` and AEAD suites of DTLS 1.2. A client whose cipher list has others as well
/// offers none; a server agrees to none with such a suite; and where DTLS 1.3 is allowed there are none either.
public struct DtlsConnectionIDs: Sendable {
    enum Kind: Sendable {
        case automatic
        case off
        case accepted
        case random(length: Int)
        case generated(length: Int, @Sendable () -> [UInt8])
    }

    let kind: Kind

    /// To a multiple of how many bytes the content of a record with a Connection ID is filled up, its type included: 1
    /// to 128. It hides how long payloads are, as far as it goes, and ``DtlsEngine/maximumPayloadSize`` accounts for
    /// it. Default: 1, which adds nothing.
    public var padding = 1

    /// Whether to agree on return routability checks (RFC 9853), which show that a peer whose address has changed
    /// receives what is sent there: without them whoever can send a record of the peer's, the
    /// peer itself above all, from a forged address has the association's traffic sent to that address. Default:
    /// `true`; it takes a peer that knows them, too.
    public var checksPaths = true

    /// Clients take part without an ID of their own (``accepted``); servers give each association one of 8 random
    /// bytes. The default.
    public static let automatic = DtlsConnectionIDs(kind: .automatic)

    /// Connection IDs are neither offered nor accepted.
    public static let off = DtlsConnectionIDs(kind: .off)

    /// The peer's ID is used, and the own one is empty: right for clients, which have a socket, or an address, for each
    /// association.
    public static let accepted = DtlsConnectionIDs(kind: .accepted)

    /// Each association has an own ID of random bytes.
    ///
    /// In the first one a server with several loops (`DtlsServer.bind`) sees which of them is meant, so that anybody
    /// can see that; with four loops, two bits less of an ID are random.
    ///
    /// - Parameter length: 1 to 32 bytes; contexts throw ``DtlsError/Code-swift.struct/invalidConfiguration`` for
    ///   another. The shorter, the more likely that a stranger guesses one that is in use, which costs the server an
    ///   attempt to open a record, and nothing else.
    public static func random(length: Int) -> DtlsConnectionIDs {
        DtlsConnectionIDs(kind: .random(length: length))
    }

    /// Each association has an own ID that the caller makes, in which, for instance, a load balancer can read to which
    /// server it belongs. (A server with several loops cannot read in it which of them is meant: when a peer has moved,
    /// one hands its datagrams to the other.)
    ///
    /// - Parameters:
    ///   - length: 1 to 32 bytes, all of the same length, because no record says how long its ID is. Contexts throw
    ///     ``DtlsError/Code-swift.struct/invalidConfiguration`` for another.
    ///   - generate: Called for each handshake in which the peer may know Connection IDs, when its engine is made: on
    ///     the thread that does, which is a loop of the server's, or one of the client's where it connects anew. It
    ///     must be quick, and must not call into a client, a server or a connection. For an ID of another length than
    ///     `length` making the engine, and so a client's connect, throws
    ///     ``DtlsError/Code-swift.struct/invalidConfiguration``; a server drops the hello and logs an error. When an ID
    ///     is in use a server asks again, up to eight times in all, and a client's connect throws the same.
    public static func generated(length: Int, by generate: @escaping @Sendable () -> [UInt8]) -> DtlsConnectionIDs {
        DtlsConnectionIDs(kind: .generated(length: length, generate))
    }

    /// The length of own IDs, in bytes; nil when there are no Connection IDs at all.
    func length(for role: DtlsRole) -> Int? {
        switch kind {
        case .off: nil
        case .accepted: 0
        case .automatic: role == .client ? 0 : Self.automaticLength
        case .random(let length), .generated(let length, _): length
        }
    }

    /// Whether own IDs are made here, and not by the caller.
    package var areMadeHere: Bool {
        if case .generated = kind { false } else { true }
    }

    /// An own ID for an association that begins; nil when there are no Connection IDs at all.
    ///
    /// - Parameter residue: What can be read in the first byte of an ID that is made here.
    func make(for role: DtlsRole, residue: ConnectionIDResidue? = nil) throws(DtlsError) -> [UInt8]? {
        guard let length = length(for: role) else { return nil }
        guard case .generated(_, let generate) = kind else {
            var bytes = try RandomBytes.array(length)
            if let residue, let first = bytes.first { bytes[0] = residue.applied(to: first) }
            return bytes
        }
        let bytes = generate()
        guard bytes.count == length else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .handshake,
                "a Connection ID of \(bytes.count) bytes was made where all have \(length)"
            )
        }
        return bytes
    }

    func validate() throws(DtlsError) {
        var length: Int?
        switch kind {
        case .random(let count), .generated(let count, _): length = count
        case .automatic, .off, .accepted: break
        }
        if let length, !(1...Self.maximumLength).contains(length) {
            let message = "Connection IDs of \(length) bytes are outside of 1 to \(Self.maximumLength)"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
        guard (1...128).contains(padding) else {
            let message = "a padding to \(padding) bytes is outside of 1 to 128"
            throw DtlsError(.invalidConfiguration, phase: .configuration, message)
        }
    }

    /// RFC 9146 §3 has 255; nobody needs that many, and each record carries them.
    static let maximumLength = 32

    private static let automaticLength = 8
}

/// What the first byte of an ID leaves when it is divided, by which a datagram finds its way among several loops.
package struct ConnectionIDResidue: Sendable {
    let remainder: Int
    let divisor: Int

    /// - Parameters:
    ///   - remainder: Below `divisor`.
    ///   - divisor: 1 to 64.
    package init(_ remainder: Int, modulo divisor: Int) {
        self.remainder = remainder
        self.divisor = divisor
    }

    /// A byte with this residue, as random as `byte` is, but for that.
    func applied(to byte: UInt8) -> UInt8 {
        let values = (Int(UInt8.max) - remainder) / divisor + 1
        return UInt8(truncatingIfNeeded: remainder + divisor * (Int(byte) % values))
    }
}

/// The Connection IDs that a handshake has settled (RFC 9146 §3).
public struct DtlsNegotiatedConnectionIDs: Sendable, Hashable {
    /// What stands in the peer's records, 1 to 32 bytes; empty when nothing does.
    public let own: [UInt8]

    /// What stands in the records to the peer, 1 to 255 bytes; empty when nothing does.
    public let peer: [UInt8]
}

/// Both Connection IDs of an association, as its records have them.
struct ConnectionIDPair {
    var own: [UInt8] = []
    var peer: [UInt8] = []
    /// To a multiple of how many bytes records to the peer are filled up, if they carry an ID.
    var padding = 1
    /// Whether both sides know return routability checks.
    var checksPaths = false
}
