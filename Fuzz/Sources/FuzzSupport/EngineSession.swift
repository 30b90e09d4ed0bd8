import DTLSCore

/// One run of ``EngineFuzzing``.
struct EngineSession {
    private let pair: EnginePair
    private let role: DtlsRole
    private var now: ContinuousClock.Instant
    /// Whether one side has closed, or the application has refused the other, in earnest.
    private var isEnded = false
    /// What the handshake can still be held to.
    private var demand = Demand.finishes

    private enum Demand: Comparable {
        /// Nothing: it saw messages in clear that an honest peer might have sent, or time has passed.
        case none
        /// It may lack what only a retransmission brings, but it goes on.
        case goesOn
        /// It finishes as if nothing had been injected.
        case finishes
    }

    /// What a datagram may bring out of an engine: a flight of the handshake, cut to the smallest MTU.
    private static let mostDatagrams = 32
    private static let mostBytes = 16_384

    static let steps = 16

    init(_ pair: EnginePair, subject role: DtlsRole, now: ContinuousClock.Instant) {
        self.pair = pair
        self.role = role
        self.now = now
    }

    private var subject: Peer? { role == .client ? pair.client : pair.server }
    private var other: Peer? { role == .client ? pair.server : pair.client }

    /// Starts both, and lets `stage` datagrams through, or with the highest bit all. The next bit leaves questions to
    /// the input.
    mutating func reach(_ stage: UInt8) {
        pair.client.start(now: now)
        pair.server?.start(now: now)
        // A gate has no mid-handshake; what stands behind it is what is fuzzed here.
        while pair.server == nil, pair.step(now: now) {}
        let answersAtOnce = stage & 0x40 == 0
        for peer in [pair.client, pair.server] { peer?.answersAtOnce = answersAtOnce }
        if stage & 0x80 != 0 {
            pair.pump(now: now)
            if answersAtOnce { require(isOpen, "the handshake did not finish: \(state)") }
        } else {
            for _ in 0..<(stage & 0x1F) { pair.step(now: now) }
        }
    }

    private var isOpen: Bool { pair.client.engine.isOpen && pair.server?.engine.isOpen == true }

    private var state: String {
        let server = pair.server?.engine
        return "client \(pair.client.engine.isOpen) \(String(describing: pair.client.engine.closeReason)), "
            + "server \(server?.isOpen == true) \(String(describing: server?.closeReason))"
    }

    // MARK: Steps

    mutating func perform(_ input: inout FuzzInput) {
        switch input.byte() % UInt8(Self.steps) {
        case 0: inject(input.counted())
        case 1: inject(truncated(&input))
        case 2: inject(flipped(&input))
        case 3: inject(genuine(&input))
        case 4: inject(spliced(&input))
        case 5: inject(overwritten(&input))
        case 6: passTime(.milliseconds(input.uint16()))
        case 7: answer(input.byte())
        case 8: if role == .client { pair.deliverToClient(now: now) } else { pair.deliverToServer(now: now) }
        case 9: if role == .client { pair.deliverToServer(now: now) } else { pair.deliverToClient(now: now) }
        case 10: inject(invented(&input))
        case 11: inject(relabelled(&input))
        case 12: inject(refragmented(&input))
        case 13: _ = subject?.send([UInt8](repeating: 1, count: input.number(below: 1_300)), now: now)
        case 14: _ = other?.send([UInt8](repeating: 2, count: input.number(below: 1_300)), now: now)
        default: end(input.byte())
        }
    }

    private mutating func answer(_ choice: UInt8) {
        let peer = choice & 1 == 0 ? subject : other
        if peer?.answerQuestion(agreeing: choice & 6 != 0, now: now) == true, choice & 6 == 0 { isEnded = true }
    }

    private mutating func end(_ choice: UInt8) {
        // Rarely, or little would be left to try.
        guard choice >= 0xF0 else { return pair.pump(now: now) }
        isEnded = true
        (choice & 1 == 0 ? subject : other)?.close(now: now)
    }

    private mutating func passTime(_ duration: Duration) {
        let wasOpen = subject?.engine.isOpen == true
        now += duration
        demand = .none
        subject?.handleTimeout(now: now)
        if wasOpen, !isEnded { require(subject?.engine.isOpen == true, "time ended an association: \(state)") }
    }

    /// Sends the subject a datagram that the peer has not sent now.
    private mutating func inject(_ datagram: [UInt8]) {
        guard let subject else { return }
        if !(other?.delivered.contains(datagram) ?? false) { demand = Swift.min(demand, demand(after: datagram)) }
        let wasOpen = subject.engine.isOpen
        let sent = subject.sent.count
        subject.receive(datagram, now: now)
        if wasOpen, !isEnded {
            require(subject.engine.isOpen, "a datagram ended an association: \(datagram), \(state)")
        }
        let out = subject.sent[sent...]
        require(out.count <= Self.mostDatagrams, "\(out.count) datagrams out for one in")
        let bytes = out.reduce(0) { $0 + $1.count }
        require(bytes <= Self.mostBytes, "\(bytes) bytes out for \(datagram.count) bytes in")
    }

    /// What a handshake owes after a datagram that no honest peer has sent, which is not in clear what one might send.
    private func demand(after datagram: [UInt8]) -> Demand {
        var demand = Demand.finishes
        for record in records(datagram, of: other) where record.count >= Wire.recordHeaderSize && record[1] == 0xFE {
            let body = record[Wire.recordHeaderSize...]
            switch (Int(record[3]) << 8 | Int(record[4]), record[0]) {
            case (0, 20): if body.elementsEqual([1]) { demand = .goesOn }
            case (0, 22): if body.count >= Wire.fragmentHeaderSize { return .none }
            case (1, 20...23), (1, Wire.connectionIDType): if body.count >= 16 { demand = .goesOn }
            default: break
            }
        }
        return demand
    }

    // MARK: The end

    /// Once the subject is open, what strangers have sent must not be noticed: the peer is or becomes open too, and
    /// payloads pass.
    mutating func checkEnd() {
        guard let subject, let other, !isEnded else { return }
        repeat { pair.pump(now: now) } while subject.answerQuestion(now: now) || other.answerQuestion(now: now)
        if demand >= .goesOn { require(subject.engine.closeReason == nil, "junk ended a handshake: \(state)") }
        if demand >= .finishes { require(subject.engine.isOpen, "junk hindered a handshake: \(state)") }
        guard subject.engine.isOpen else { return }
        require(isOpen, "one side only is open: \(state)")
        exchange(from: other, to: subject)
        exchange(from: subject, to: other)
    }

    private func exchange(from sender: Peer, to receiver: Peer) {
        let payload = Array("still here".utf8)
        let count = receiver.payloads.count
        require(sender.send(payload, now: now), "a payload cannot be sent: \(state)")
        pair.pump(now: now)
        require(receiver.payloads.count == count + 1, "a payload was lost: \(state)")
        require(receiver.payloads.last == payload, "a payload was changed")
    }
}

// MARK: - Datagrams

extension EngineSession {
    /// Something that one side has sent, most often the peer; at the end, what the subject itself has.
    private func genuine(_ input: inout FuzzInput) -> [UInt8] {
        choose(&input).datagram
    }

    private func choose(_ input: inout FuzzInput) -> (datagram: [UInt8], sender: Peer?) {
        let counts = [other, subject].map { $0?.sent.count ?? 0 }
        guard counts[0] + counts[1] > 0 else { return ([], nil) }
        let index = input.number(below: counts[0] + counts[1])
        let sender = index < counts[0] ? other : subject
        return (sender?.sent[index < counts[0] ? index : index - counts[0]] ?? [], sender)
    }

    /// The records of a datagram that a side has sent, or may have.
    private func records(_ datagram: [UInt8], of sender: Peer?) -> [[UInt8]] {
        let counts = pair.scenario.idCounts
        return Wire.records(datagram, idCount: sender === pair.client ? counts.client : counts.server)
    }

    private func genuineRecords(_ input: inout FuzzInput) -> [[UInt8]] {
        let (datagram, sender) = choose(&input)
        return records(datagram, of: sender)
    }

    private func truncated(_ input: inout FuzzInput) -> [UInt8] {
        let datagram = genuine(&input)
        return Array(datagram.prefix(input.number(below: datagram.count + 1)))
    }

    private func flipped(_ input: inout FuzzInput) -> [UInt8] {
        var datagram = genuine(&input)
        guard !datagram.isEmpty else { return [] }
        for _ in 0...input.number(below: 3) { datagram[input.number(below: datagram.count)] ^= input.byte() }
        return datagram
    }

    private func overwritten(_ input: inout FuzzInput) -> [UInt8] {
        var datagram = genuine(&input)
        let position = input.number(below: datagram.count + 1)
        let bytes = input.counted()
        datagram.replaceSubrange(position..<Swift.min(datagram.count, position + bytes.count), with: bytes)
        return datagram
    }

    /// Records of several datagrams in one.
    private func spliced(_ input: inout FuzzInput) -> [UInt8] {
        var datagram: [UInt8] = []
        for _ in 0...input.number(below: 6) {
            let records = genuineRecords(&input)
            if !records.isEmpty { datagram += records[input.number(below: records.count)] }
        }
        return datagram
    }

    /// A record of any kind, with or without an authentic look.
    private func invented(_ input: inout FuzzInput) -> [UInt8] {
        var datagram: [UInt8] = []
        for _ in 0...input.number(below: 3) {
            let type = 20 + input.byte() % 7
            let epoch = UInt16(input.byte() % 4)
            let sequence = UInt64(input.byte())
            datagram += Wire.record(type, input.counted(), epoch: epoch, sequence: sequence)
        }
        return datagram
    }

    /// A genuine record under another header.
    private func relabelled(_ input: inout FuzzInput) -> [UInt8] {
        let records = genuineRecords(&input)
        guard !records.isEmpty else { return [] }
        var record = records[input.number(below: records.count)]
        guard record.count >= Wire.recordHeaderSize else { return record }
        switch input.byte() % 6 {
        case 0: record[0] = 20 + input.byte() % 8
        case 5: if record.count > 11 { record[11 + input.number(below: record.count - 11)] ^= input.byte() }
        case 1: record[4] = input.byte() % 4
        case 2: for index in 5..<11 { record[index] = input.byte() }
        case 3: record[2] = input.byte()
        default: record[10] = input.byte()
        }
        return record
    }

    /// A handshake message, or an invention of one, in fragments of any kind.
    private func refragmented(_ input: inout FuzzInput) -> [UInt8] {
        let records = genuineRecords(&input)
        let start = Wire.recordHeaderSize + Wire.fragmentHeaderSize
        guard !records.isEmpty else { return [] }
        let record = records[input.number(below: records.count)]
        guard record.count > start, record[0] == 22 else { return record }
        let message = Array(record[start...])
        var datagram: [UInt8] = []
        for _ in 0...input.number(below: 3) {
            let plan = input.byte()
            let from = input.number(below: message.count)
            let count = input.number(below: message.count - from + 1)
            datagram += Wire.fragment(
                plan & 0x80 == 0 ? record[13] : plan & 0x1F,
                of: message,
                from..<(from + count),
                messageSequence: plan & 0x40 == 0 ? Int(record[18]) : Int(plan & 0x0F),
                sequence: UInt64(plan) + 100
            )
        }
        return datagram
    }
}
