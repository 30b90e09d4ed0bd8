import FuzzSupport

@testable import DTLSCore

/// What one side begins with, as if a handshake had just come to its end.
struct Start {
    let role: DtlsRole
    let keys: RecordKeys
    let layout: Layout
    let mtu: Int
    /// More content the peer takes in no record.
    let largestContent: Int
    let nextNumber: UInt64
    let sealedBlocks: UInt64
    let nextClearNumber: UInt64 = 6
    /// The last flight of the handshake, if it was this side's.
    let flight: Endpoint.Flight?

    private let ownID: [UInt8]
    private let window: ReplayWindow
    private let forgeries: UInt64

    /// - Parameters:
    ///   - role: Whose side this is.
    ///   - plan: What the input says.
    ///   - keys: Those of both sides.
    init(_ role: DtlsRole, _ plan: Plan, _ keys: RecordKeys) {
        let (own, peer) = role == .client ? (plan.client, plan.server) : (plan.server, plan.client)
        self.role = role
        self.keys = keys
        layout = Layout(keys.cipher.algorithm, connectionID: peer.connectionID, padding: own.padding)
        mtu = plan.mtu
        largestContent = peer.largestContent
        nextNumber = own.nextNumber
        ownID = own.connectionID
        flight = plan.lastFlight == role ? Self.flight(own) : nil
        // At the edge, or far from it.
        let limit = keys.cipher.algorithm.sealedBlockLimit ?? 0
        sealedBlocks = own.hasNearlyUsedUpKeys && limit > 0 ? limit - 200 : 0
        forgeries = plan.forgeries(keys)
        var window = ReplayWindow(size: plan.window)
        window.accept(0)
        window.accept(peer.nextNumber - 1)
        self.window = window
    }

    private static func flight(_ side: Plan.Side) -> Endpoint.Flight {
        let ticket = [UInt8](repeating: 0x74, count: side.ticketCount)
        let finished: [UInt8] = [20, 0, 0, 12, 0, 6, 0, 0, 0, 0, 0, 12] + [UInt8](repeating: 0xF1, count: 12)
        let pieces: [Endpoint.Piece] = [
            .message(type: 4, messageSequence: 5, body: ticket), .clear(contentType: 20, content: [1]),
            .sealed(contentType: 22, content: finished),
        ]
        return Endpoint.Flight(pieces: ticket.isEmpty ? Array(pieces.dropFirst()) : pieces, attempts: side.attempts)
    }

    func association(_ context: DtlsEngineContext) -> DetachedAssociation {
        let isResumed = flight != nil && role == .client
        return DetachedAssociation(
            context: context,
            records: records(),
            settled: DtlsNegotiated(
                DtlsNegotiated.Storage(
                    version: .v1_2,
                    cipherSuite: .pskWithAES128GCM,
                    group: nil,
                    signatureAlgorithm: nil,
                    peerSignatureAlgorithm: nil,
                    peerCertificates: [],
                    peerPublicKeyFingerprint: nil,
                    preSharedKeyIdentity: [1],
                    applicationProtocol: nil,
                    srtpProfile: 0,
                    serverName: nil,
                    clientOffer: nil,
                    connectionIDs: DtlsNegotiatedConnectionIDs(own: ownID, peer: layout.connectionID),
                    isResumed: isResumed
                )
            ),
            mtu: mtu,
            maximumFragment: largestContent,
            session: nil,
            flight: finalFlight()
        )
    }

    private func records() -> DetachedRecords {
        let ids = ConnectionIDPair(own: ownID, peer: layout.connectionID, padding: layout.padding)
        let records = DetachedRecords(
            keys: keys,
            role: role,
            connectionIDs: ids,
            nextNumber: nextNumber,
            window: window
        )
        guard sealedBlocks + forgeries > 0 else { return records }
        // What takes a lifetime to count.
        let writer = SecretWriter()
        records.write(to: writer)
        var bytes = writer.secret.withUnsafeBytes { Array($0) }
        let counts = 3 + RecordKeys.handshakeLength + 8
        bytes.replaceSubrange(counts..<(counts + 16), with: Wire.big(sealedBlocks, 8) + Wire.big(forgeries, 8))
        var counted: DetachedRecords?
        bytes.withUnsafeBytes { bytes in
            var reader = SecretReader(bytes)
            counted = DetachedRecords(from: &reader)
        }
        guard let counted = counted.take(), counted.sealedBlocks == sealedBlocks, counted.forgeries == forgeries else {
            violated("the counts stand elsewhere in a hand-over by now")
        }
        return counted
    }

    private func finalFlight() -> FinalFlight? {
        guard let flight else { return nil }
        let records = flight.pieces.map { piece in
            switch piece {
            case .clear(let contentType, let content):
                FinalFlight.Record(contentType: contentType, isSealed: false, content: content)
            case .sealed(let contentType, let content):
                FinalFlight.Record(contentType: contentType, isSealed: true, content: content)
            case .message(let type, let messageSequence, let body):
                FinalFlight.Record(
                    contentType: 22,
                    isSealed: false,
                    content: Array(
                        Wire.fragment(type, of: body, 0..<body.count, messageSequence: messageSequence, sequence: 0)
                            .dropFirst(Wire.recordHeaderSize)
                    )
                )
            }
        }
        return FinalFlight(
            records: records,
            nextClearNumber: nextClearNumber,
            attempts: flight.attempts
        )
    }

    /// Seals anything with the keys of a side, under any number.
    static func seal(
        _ contentType: UInt8,
        _ content: [UInt8],
        number: UInt64,
        by role: DtlsRole,
        _ keys: RecordKeys,
        _ layout: Layout
    ) -> [UInt8] {
        let ids = ConnectionIDPair(peer: layout.connectionID, padding: layout.padding)
        var records = DetachedRecords(keys: keys, role: role, connectionIDs: ids)
        let record = content.withUnsafeBytes { records.seal(contentType, $0, numbered: number) }
        guard let record else { violated("\(content.count) bytes cannot be sealed under the number \(number)") }
        return record
    }
}

/// What an input says of an association, before anything happens.
struct Plan {
    struct Side {
        let connectionID: [UInt8]
        let padding: Int
        let nextNumber: UInt64
        let largestContent: Int
        let ticketCount: Int
        /// How often its flight may be sent again.
        let attempts: Int
        let hasNearlyUsedUpKeys: Bool

        init(_ input: inout FuzzInput, pattern: UInt8) {
            let count = Int(input.byte())
            // Without one more often than with any other length.
            connectionID = (0..<(count <= 32 ? count : 0)).map { pattern &+ UInt8($0) }
            padding = 1 + Int(input.byte() & 0x7F)
            let choice = input.byte()
            nextNumber =
                switch choice & 3 {
                case 0, 1: 1
                case 2: 1 + UInt64(input.byte())
                default: 1 << 48 - UInt64(input.byte() % 40)
                }
            largestContent = choice & 4 == 0 ? Layout.maximumContent : 512
            ticketCount = choice & 8 == 0 ? 0 : 900
            attempts = Int(choice >> 5)
            hasNearlyUsedUpKeys = choice & 16 != 0
        }
    }

    let suite: Int
    let window: Int
    let mtu: Int
    let client: Side
    let server: Side
    /// Whose was the last flight of the handshake: the client's where a session was resumed.
    let lastFlight: DtlsRole
    private let hasManyForgeries: Bool

    init(_ input: inout FuzzInput) {
        suite = Int(input.byte())
        let choice = input.byte()
        window = [64, 64, 65, 127, 128, 200, 1_024, 16_384][Int(choice & 7)]
        lastFlight = choice & 0x40 == 0 ? .server : .client
        hasManyForgeries = choice & 0x80 != 0
        let size = Int(input.byte())
        mtu = size < 0xF0 ? 256 + 8 * size : 65_507 - 4_000 * (size - 0xF0)
        client = Side(&input, pattern: 0xC0)
        server = Side(&input, pattern: 0x50)
    }

    /// How many forged records each side has seen, or blocks of them.
    func forgeries(_ keys: RecordKeys) -> UInt64 {
        let algorithm = keys.cipher.algorithm
        return hasManyForgeries ? algorithm.forgeryLimit - (algorithm.isCCM ? 60 : 5) : 0
    }
}
