import FuzzSupport

@testable import DTLSCore

/// One side: its association, and beside it all that must come of what it is given.
final class Endpoint {
    let role: DtlsRole
    /// How its own records look.
    let layout: Layout
    /// Every datagram that it has put out.
    private(set) var sent: [[UInt8]] = []
    /// What the peer has sealed, and what of it came.
    var reader: Reader
    private var engine: DtlsEngine
    private let context: DtlsEngineContext
    private let otherContext: DtlsEngineContext
    private var undelivered = 0

    // What must be.
    private var expected: DtlsStatistics
    private var payloads: [[UInt8]] = []
    private var pieces: [Piece] = []
    /// How much of a message in clear, the first of the pieces, has come out.
    private var covered = 0
    private var flight: Flight?
    private var ending: Ending?
    private var endingIsTold = false
    private(set) var nextNumber: UInt64
    private var nextClearNumber: UInt64
    private var sealedBlocks: UInt64
    private let sealedBlockLimit: UInt64?
    private(set) var mtu: Int
    private let largestContent: Int

    /// The last flight of the handshake, for as long as it may be asked for.
    struct Flight {
        let pieces: [Piece]
        var attempts: Int
    }

    /// A record that must come out.
    enum Piece {
        /// In a record in clear.
        case clear(contentType: UInt8, content: [UInt8])
        /// Of a handshake, in clear, in as many fragments as it takes.
        case message(type: UInt8, messageSequence: Int, body: [UInt8])
        case sealed(contentType: UInt8, content: [UInt8])
    }

    private enum Ending: Equatable {
        case closedLocally, closedByPeer, replaced
        case failed(DtlsError.Code)
    }

    /// The numbers that are left for alerts.
    private static let reservedNumbers: UInt64 = 16
    private func refusal(of payload: [UInt8]) -> DtlsError.Code? {
        if let endingCode { return endingCode }
        if payload.count > engine.maximumPayloadSize { return .payloadTooLarge }
        if payload.isEmpty { return .unsupported }
        return maySeal(payload.count, reserve: Self.reservedNumbers) ? nil : .keysUsedUp
    }

    /// What comes of an attempt to use what has ended.
    private var endingCode: DtlsError.Code? {
        if case .failed(let code) = ending { code } else { ending == nil ? nil : .connectionClosed }
    }

    private static let closeNotify = Piece.sealed(contentType: 21, content: [1, 0])
    private static let noRenegotiation = Piece.sealed(contentType: 21, content: [1, 100])

    init(_ start: Start, _ contexts: [DtlsEngineContext], reader: Reader) {
        role = start.role
        layout = start.layout
        self.reader = reader
        let mine = contexts.firstIndex { $0.role == start.role } ?? 0
        context = contexts[mine]
        otherContext = contexts[1 - mine]
        engine = DtlsEngine(context, start.association(context))
        mtu = start.mtu
        flight = start.flight
        nextNumber = start.nextNumber
        nextClearNumber = start.nextClearNumber
        sealedBlocks = start.sealedBlocks
        sealedBlockLimit = start.keys.cipher.algorithm.sealedBlockLimit
        largestContent = start.largestContent
        expected = DtlsStatistics()
        settle()
    }

    var isOpen: Bool { ending == nil }

    /// The oldest datagram that was not asked for.
    func takeDatagram() -> [UInt8]? {
        guard undelivered < sent.count else { return nil }
        defer { undelivered += 1 }
        return sent[undelivered]
    }

    // MARK: Inputs

    func send(_ payload: [UInt8], to peer: Endpoint) {
        let code = refusal(of: payload)
        if code == nil {
            pieces.append(.sealed(contentType: 23, content: payload))
            expected.payloadsSent += 1
        } else if code == .keysUsedUp, ending == nil {
            endByUsedUpKeys()
        }
        do {
            try engine.send(payload.span.bytes)
            require(code == nil, "\(payload.count) bytes were sent, instead of \(code?.description ?? "")")
        } catch {
            require(error.code == code, "\(error) instead of \(code?.description ?? "a record")")
        }
        let before = sent.count
        settle(into: peer)
        require(sent.count - before <= 1, "\(sent.count - before) datagrams for a payload")
    }

    func receive(_ datagram: [UInt8], from peer: Endpoint, now: ContinuousClock.Instant, flightIsDue: Bool) {
        expected.datagramsReceived += 1
        expected.bytesReceived += datagram.count
        if !flightIsDue { flight = nil }
        let must = ending == nil ? read(datagram) : .unknown
        // As large as the datagram, so that not one byte behind it can be read unnoticed.
        let exact = UnsafeMutableRawBufferPointer.allocate(byteCount: datagram.count, alignment: 1)
        defer { exact.deallocate() }
        exact.copyBytes(from: datagram)
        let receipt = engine.receive(UnsafeRawBufferPointer(exact).bytes, now: now)
        require(receipt == must, "a receipt of \(receipt) instead of \(must) for \(datagram)")
        settle(into: peer)
    }

    func close(telling peer: Endpoint, silently: Bool) {
        if ending == nil {
            if !silently { pieces.append(Self.closeNotify) }
            ending = silently ? .replaced : .closedLocally
        }
        if silently { engine.abandon() } else { engine.close() }
        settle(into: peer)
    }

    func lowerMTU(to bytes: Int) {
        if ending == nil { mtu = min(mtu, max(bytes, 256)) }
        engine.lowerMTU(to: bytes)
        settle()
    }

    func handleTimeout(now: ContinuousClock.Instant) {
        engine.handleTimeout(now: now)
        settle()
    }

    /// Goes on in another engine. The one before is dead, and must say so and nothing else.
    func handOver() {
        do {
            let state = try engine.handOver()
            require(isOpen, "what has ended was handed over")
            endWithoutAWord(engine)
            require((try? DtlsEngine(takingOver: state, context: otherContext)) == nil, "it is of the other role")
            engine = try DtlsEngine(takingOver: state, context: context)
            expected = DtlsStatistics()
        } catch {
            require(error.code == endingCode, "\(error) instead of \(endingCode?.description ?? "a hand-over")")
        }
        settle()
    }

    /// Makes an engine of the association's bytes, damaged. Nobody but who has their key can damage them, so that any
    /// association may come of it, but one that works.
    func handOverDamaged(_ damage: ([UInt8]) -> [UInt8]) {
        guard isOpen, let state = try? engine.handOver() else { return }
        endWithoutAWord(engine)
        let bytes = damage(state.withUnsafeBytes { Array($0) })
        if let other = try? DtlsEngine(takingOver: DtlsSecretBytes(bytes), context: context) {
            for datagram in sent.suffix(2) { other.receive(datagram.span.bytes) }
            for count in [1, other.maximumPayloadSize] {
                try? other.send([UInt8](repeating: 1, count: count).span.bytes)
            }
            other.lowerMTU(to: other.mtu - 1)
            _ = try? DtlsEngine(takingOver: other.handOver(), context: context)
        }
        do { engine = try DtlsEngine(takingOver: state, context: context) } catch { violated("\(error)") }
        expected = DtlsStatistics()
        settle()
    }

    private func endWithoutAWord(_ engine: DtlsEngine) {
        var reasons: [DtlsCloseReason] = []
        while case .closed(let reason)? = engine.nextEvent() { reasons.append(reason) }
        require(reasons == [.handedOver] && !engine.isOpen, "the end of a hand-over: \(reasons)")
        engine.close()
        require((try? engine.send([1].span.bytes)) == nil, "a payload was sent after a hand-over")
        engine.drainOutbound { _ in violated("something was sent after a hand-over") }
    }

    /// The most that must be possible to send.
    var largestPayload: Int { engine.maximumPayloadSize }

    func export(_ context: [UInt8]?) -> DtlsSecretBytes? {
        let secret = try? engine.exportKeyingMaterial(label: "EXPORTER-fuzz", context: context, count: 32)
        let isPossible = isOpen && "EXPORTER-fuzz".utf8.count + (context?.count ?? 0) <= 958
        require((secret != nil) == isPossible, "keying material, which is possible: \(isPossible)")
        let key = try? engine.exportKeyingMaterial(label: "key expansion", context: context, count: 32)
        require(key == nil, "a secret of TLS itself is exported")
        return secret
    }
}

// MARK: - What must be

extension Endpoint {
    /// Takes note of what comes of a datagram.
    private func read(_ datagram: [UInt8]) -> DtlsReceipt {
        var receipt = DtlsReceipt.unknown
        var offset = 0
        if datagram.isEmpty { expected.drops[.malformedRecord] += 1 }
        while offset < datagram.count, ending == nil {
            switch reader.next(datagram, at: &offset) {
            case nil:
                expected.drops[.malformedRecord] += 1
                return receipt
            case .dropped(let reason):
                expected.drops[reason] += 1
                if reader.hasSeenTooManyForgeries { endByUsedUpKeys() }
            case .opened(let contentType, let content, let isNewest):
                receipt = max(receipt, isNewest ? .newest : .authentic)
                take(contentType, content)
            }
        }
        return receipt
    }

    private func take(_ contentType: UInt8, _ content: [UInt8]) {
        switch (contentType, content.first) {
        case (23, nil):
            break
        case (23, _):
            payloads.append(content)
            expected.payloadsReceived += 1
        case (21, _) where content.count == 2 && content[1] == 0:
            pieces.append(Self.closeNotify)
            ending = .closedByPeer
        case (21, _) where content.count == 2 && content[0] != 1:
            ending = .failed(.connectionClosed)
        case (22, 20):
            expected.drops[.unopenedRecord] += 1
            guard let asked = flight, asked.attempts > 0 else {
                flight = nil
                return
            }
            flight?.attempts -= 1
            expected.retransmissions += 1
            pieces += asked.pieces
        case (22, 0) where role == .client, (22, 1) where role == .server:
            expected.drops[.unopenedRecord] += 1
            pieces.append(Self.noRenegotiation)
        default:
            expected.drops[.unopenedRecord] += 1
        }
    }

    private func endByUsedUpKeys() {
        pieces.append(Self.closeNotify)
        ending = .failed(.keysUsedUp)
    }

    private func maySeal(_ count: Int, reserve: UInt64 = 0) -> Bool {
        guard nextNumber < 1 << 48 - reserve else { return false }
        guard let sealedBlockLimit else { return true }
        return sealedBlocks + Self.blocks(count) + 3 * reserve <= sealedBlockLimit
    }

    private static func blocks(_ count: Int) -> UInt64 { UInt64((count + 15) / 16 + 2) }
}

// MARK: - What is

extension Endpoint {
    /// Takes all that the association has to give, and compares.
    ///
    /// - Parameter peer: Who is to take what is sealed now for authentic.
    private func settle(into peer: Endpoint? = nil) {
        drain { datagrams in
            for datagram in datagrams { check(datagram, peer) }
        }
        // What the keys are not good for any more is all that may be missing.
        for piece in pieces {
            guard case .sealed(_, let content) = piece, !maySeal(content.count) else {
                violated("\(piece) has not been sent")
            }
        }
        pieces = []
        checkEvents()
        checkState()
    }

    private func drain(_ body: ([[UInt8]]) -> Void) {
        var datagrams: [[UInt8]] = []
        engine.drainOutbound { span in datagrams.append(span.withUnsafeBytes { Array($0) }) }
        expected.datagramsSent += datagrams.count
        expected.bytesSent += datagrams.reduce(0) { $0 + $1.count }
        sent += datagrams
        body(datagrams)
    }

    /// Checks that a datagram consists of the next records that must come out, under numbers that were never used.
    private func check(_ datagram: [UInt8], _ peer: Endpoint?) {
        require(!datagram.isEmpty, "an empty datagram has come out")
        require(datagram.count <= mtu, "a datagram of \(datagram.count) bytes at an MTU of \(mtu)")
        var rest = datagram[...]
        while !rest.isEmpty {
            guard let piece = pieces.first else { violated("nothing was to be sent: \(datagram)") }
            switch piece {
            case .clear(let contentType, let content):
                take(Wire.record(contentType, content, sequence: nextClearNumber), of: &rest)
                nextClearNumber += 1
                pieces.removeFirst()
            case .message(let type, let messageSequence, let body):
                let header = Wire.recordHeaderSize + Wire.fragmentHeaderSize
                require(rest.count > header, "no fragment: \(Array(rest))")
                let start = rest.startIndex
                let count = Int(rest[start + header - 2]) << 8 | Int(rest[start + header - 1])
                require(count > 0 && covered + count <= body.count, "a fragment of \(count) bytes")
                let range = covered..<(covered + count)
                let number = nextClearNumber
                take(
                    Wire.fragment(type, of: body, range, messageSequence: messageSequence, sequence: number),
                    of: &rest
                )
                nextClearNumber += 1
                covered += count
                guard covered == body.count else { continue }
                covered = 0
                pieces.removeFirst()
            case .sealed(let contentType, let content):
                pieces.removeFirst()
                // Nothing can be sealed any more where this is so, and what must come is the next one.
                guard maySeal(content.count) else { continue }
                takeSealed(contentType, content, of: &rest, peer)
            }
        }
    }

    private func take(_ record: [UInt8], of rest: inout ArraySlice<UInt8>) {
        // The library's own records in clear say 1.2, OpenSSL's hellos 1.0.
        let record = [record[0], 0xFE, 0xFD] + record[3...]
        require(rest.starts(with: record), "not \(record): \(Array(rest))")
        rest = rest.dropFirst(record.count)
    }

    private func takeSealed(
        _ contentType: UInt8,
        _ content: [UInt8],
        of rest: inout ArraySlice<UInt8>,
        _ peer: Endpoint?
    ) {
        let count = layout.recordCount(of: content.count)
        let header = layout.header(contentType, number: nextNumber, bodyCount: layout.bodyCount(of: content.count))
        // The number comes once, and so does the nonce, of which it is a part, or which stands behind it.
        let nonce = Array(header[3..<11].prefix(layout.nonceCount))
        require(rest.count >= count && rest.starts(with: header + nonce), "not \(header): \(Array(rest))")
        require(peer != nil, "nobody was to be told anything: \(Array(rest))")
        peer?.reader.note(Array(rest.prefix(count)), nextNumber, contentType: contentType, content: content)
        nextNumber += 1
        sealedBlocks += Self.blocks(content.count)
        rest = rest.dropFirst(count)
    }

    private func checkEvents() {
        var came: [[UInt8]] = []
        var endings = 0
        while let event = engine.nextEvent() {
            require(endings == 0 && !endingIsTold, "an event after the end: \(event)")
            switch event {
            case .applicationData:
                engine.drainApplicationData { span in came.append(span.withUnsafeBytes { Array($0) }) }
                require(!came.isEmpty, "data were told and none came")
            case .closed(let reason):
                endings += 1
                require(Self.ending(reason) == ending, "\(reason), instead of \(String(describing: ending))")
            case .helloReceived, .preSharedKeyRequested, .certificatesPresented, .handshakeFinished,
                .sessionEstablished:
                violated("an event of a handshake: \(event)")
            }
        }
        let areThose = came.count == payloads.count && zip(came, payloads).allSatisfy(Wire.areSame)
        require(areThose, "\(came) was delivered, instead of \(payloads)")
        engine.drainApplicationData { _ in violated("data were not told") }
        payloads = []
        require(endings == (ending != nil && !endingIsTold ? 1 : 0), "the end was told \(endings) times")
        endingIsTold = ending != nil
    }

    private func checkState() {
        require(engine.isOpen == isOpen, "open: \(engine.isOpen)")
        require(
            engine.closeReason.flatMap(Self.ending) == ending,
            "\(String(describing: engine.closeReason))"
        )
        require(engine.nextDeadline == nil, "it waits for something")
        require(engine.mtu == mtu, "an MTU of \(engine.mtu) instead of \(mtu)")
        require(
            engine.statistics == expected,
            "\(engine.statistics), drops \(engine.statistics.drops.nonZero), instead of "
                + "\(expected), drops \(expected.drops.nonZero)"
        )
        let largest = engine.maximumPayloadSize
        require(largest <= largestContent && layout.recordCount(of: largest) <= mtu, "a payload of \(largest) bytes")
        // A byte more must not be possible, or fill another unit of padding.
        let next = layout.recordCount(of: largest + (layout.connectionID.isEmpty ? 1 : layout.padding))
        require(largest == largestContent || next > mtu, "no payload of more than \(largest) bytes")
    }

    private static func ending(_ reason: DtlsCloseReason) -> Ending? {
        switch reason {
        case .closedLocally: .closedLocally
        case .closedByPeer: .closedByPeer
        case .replacedByPeer: .replaced
        case .failed(let error): .failed(error.code)
        case .idle, .evicted, .handedOver: nil
        }
    }
}
