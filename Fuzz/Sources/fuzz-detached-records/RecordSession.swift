import FuzzSupport

@testable import DTLSCore

/// One run: two sides, what they send, and somebody between them who has even their keys.
struct RecordSession {
    private let client: Endpoint
    private let server: Endpoint
    private let keys: RecordKeys
    private let start = ContinuousClock.now
    /// How much time has passed.
    private var elapsed = Duration.zero
    private var payloads = 0

    static let steps: UInt8 = 16

    init(_ plan: Plan, _ keys: RecordKeys, _ contexts: [DtlsEngineContext]) {
        self.keys = keys
        let starts = (client: Start(.client, plan, keys), server: Start(.server, plan, keys))
        func reader(of peer: Start) -> Reader {
            Reader(
                peer.layout,
                windowSize: plan.window,
                highest: peer.nextNumber - 1,
                forgeries: plan.forgeries(keys),
                keys.cipher.algorithm
            )
        }
        self.client = Endpoint(starts.client, contexts, reader: reader(of: starts.server))
        self.server = Endpoint(starts.server, contexts, reader: reader(of: starts.client))
    }

    // MARK: Steps

    mutating func perform(_ input: inout FuzzInput) {
        let step = input.byte()
        let (from, to) = step & 0x80 == 0 ? (client, server) : (server, client)
        let variant = step >> 4 & 7
        switch step % Self.steps {
        case 0: from.send(payload(input.number(below: 1_400), input.byte()), to: to)
        case 1: from.send(payload(from.largestPayload - 2 + Int(variant), variant), to: to)
        case 2: for _ in 0...(input.byte() & 0x1F) { from.send(payload(1, variant), to: to) }
        case 3: if let datagram = from.takeDatagram() { deliver(datagram, from, to) }
        case 4: deliver(genuine(from, &input), from, to)
        case 5: deliver(assembled(from, to, &input), from, to)
        case 6: deliver(resealed(from, to, &input), from, to)
        case 7: deliver(invented(from, to, &input), from, to)
        case 8: deliver(input.counted(), from, to)
        case 9: deliver(changed(genuine(from, &input), from, to, &input), from, to)
        case 10: deliver(genuine(to, &input), from, to)
        case 11: from.lowerMTU(to: variant < 4 ? input.uint16() : from.mtu - Int(variant))
        case 12: passTime(from, variant)
        case 13: if variant < 6 { from.handOver() } else { handOverDamaged(from, &input) }
        case 14: if variant == 7 { compareExports(input.counted()) } else { pump() }
        // Rarely, or little would be left to try.
        default: if input.byte() >= 0xF0 { from.close(telling: to, silently: variant == 7) }
        }
    }

    /// Payloads pass, unless something that was sealed with the peer's keys stands in their way, of which both know.
    mutating func finish() {
        pump()
        client.send(payload(10, 1), to: server)
        server.send(payload(10, 1), to: client)
        pump()
    }

    private func pump() {
        for _ in 0..<10_000 {
            let toServer = client.takeDatagram()
            if let toServer { deliver(toServer, client, server) }
            let toClient = server.takeDatagram()
            if let toClient { deliver(toClient, server, client) }
            if toServer == nil, toClient == nil { return }
        }
        violated("the two answer each other without end")
    }

    private func deliver(_ datagram: [UInt8], _ from: Endpoint, _ to: Endpoint) {
        to.receive(datagram, from: from, now: start + elapsed, flightIsDue: elapsed < FinalFlight.lifetime)
    }

    /// Steps so large that a flight's time is over by far or not by far: hand-overs read the clock.
    private mutating func passTime(_ side: Endpoint, _ variant: UInt8) {
        if variant == 0 { elapsed += .seconds(130) }
        side.handleTimeout(now: start + elapsed)
    }

    private func handOverDamaged(_ side: Endpoint, _ input: inout FuzzInput) {
        let plan = input.byte()
        let at = input.uint16()
        let bytes = input.counted()
        side.handOverDamaged { state in
            var state = state
            let start = at % (state.count + 1)
            switch plan & 3 {
            case 0: state.removeLast(state.count - start)
            case 1: state.insert(contentsOf: bytes, at: start)
            default: state.replaceSubrange(start..<min(state.count, start + bytes.count), with: bytes)
            }
            return state
        }
    }

    private func compareExports(_ context: [UInt8]) {
        let bound = context.isEmpty ? nil : context
        let secrets = [client, server].compactMap { $0.export(bound) }
        require(secrets.count < 2 || secrets[0] == secrets[1], "two secrets are exported")
    }

    /// No two are the same, from four bytes on.
    private mutating func payload(_ count: Int, _ fill: UInt8) -> [UInt8] {
        payloads += 1
        guard count > 0 else { return [] }
        let start = Wire.big(UInt64(payloads), 4).suffix(count)
        return start + [UInt8](repeating: fill, count: count - start.count)
    }
}

// MARK: - Datagrams

extension RecordSession {
    private func genuine(_ side: Endpoint, _ input: inout FuzzInput) -> [UInt8] {
        side.sent.isEmpty ? [] : side.sent[side.sent.count - 1 - input.number(below: side.sent.count)]
    }

    /// Several records, of any origin, in one datagram.
    private func assembled(_ from: Endpoint, _ to: Endpoint, _ input: inout FuzzInput) -> [UInt8] {
        let plan = input.byte()
        var datagram: [UInt8] = []
        for _ in 0...(plan & 7) {
            switch input.byte() % 8 {
            case 0: datagram += genuine(to, &input)
            case 1: datagram += resealed(from, to, &input)
            case 2: datagram += invented(from, to, &input)
            case 3: datagram += input.counted()
            case 4: datagram += changed(genuine(from, &input), from, to, &input)
            case 5: datagram += changed(resealed(from, to, &input), from, to, &input)
            default: datagram += genuine(from, &input)
            }
        }
        return plan & 0x80 == 0 ? datagram : Array(datagram.prefix(input.number(below: datagram.count + 1)))
    }

    /// Something that the peer would not send, with its keys.
    private func resealed(_ from: Endpoint, _ to: Endpoint, _ input: inout FuzzInput) -> [UInt8] {
        let plan = input.byte()
        let number = to.reader.number(near: input.byte(), next: from.nextNumber)
        var contentType = [23, 22, 21, 20, 0, 24, 25, 255][Int(plan & 7)] as UInt8
        var content = content(&input)
        switch (plan & 7, plan >> 3 & 3) {
        case (1, 0): content = [20] + content
        case (1, 1): content = [0] + content
        case (1, 2): content = [1] + content
        case (2, 0): content = [1, 90]
        // Rarely: these are the end.
        case (2, 1): content = content.first == 0x77 ? [1, 0] : [1, 100]
        case (2, 2): content = content.first == 0x77 ? [2, 80] : [1, 41]
        case (5, 1): contentType = input.byte()
        default: break
        }
        if plan & 0x60 == 0x60 {
            // Under another Connection ID, or none: the keys do not make it the peer's.
            let other = Layout(
                keys.cipher.algorithm,
                connectionID: from.layout.connectionID.isEmpty ? [9] : input.bytes(input.number(below: 34)),
                padding: from.layout.padding
            )
            if other.connectionID != from.layout.connectionID {
                return Start.seal(contentType, content, number: number, by: from.role, keys, other)
            }
        }
        let record = Start.seal(contentType, content, number: number, by: from.role, keys, from.layout)
        to.reader.note(record, number, contentType: contentType, content: content)
        return record
    }

    /// What a record may hold, and more.
    private func content(_ input: inout FuzzInput) -> [UInt8] {
        let choice = input.byte()
        let fill = input.byte()
        let counts = [0, 1, 2, 15, 16, 17, 255, 1_000, 16_383, 16_384, 16_385, 16_400, 18_400, 18_432, 20_000]
        guard choice & 15 < 15 else { return input.counted() }
        var content = [UInt8](repeating: fill, count: counts[Int(choice & 15)])
        // Zeros at the end must not be taken for padding, nor padding for content.
        for index in 0..<min(content.count, Int(choice >> 4)) { content[content.count - 1 - index] = 0 }
        return content
    }

    /// A record that looks as if the peer had sealed it, or nearly.
    private func invented(_ from: Endpoint, _ to: Endpoint, _ input: inout FuzzInput) -> [UInt8] {
        let plan = input.byte()
        let body = input.counted()
        return from.layout.header(
            20 + plan & 7,
            number: to.reader.number(near: input.byte(), next: from.nextNumber),
            bodyCount: plan & 0x80 == 0 ? body.count : input.uint16(),
            epoch: [1, 1, 0, 2][Int(plan >> 3 & 3)]
        ) + body
    }

    /// The datagram, with something of it changed.
    private func changed(
        _ datagram: [UInt8],
        _ from: Endpoint,
        _ to: Endpoint,
        _ input: inout FuzzInput
    ) -> [UInt8] {
        guard !datagram.isEmpty else { return [] }
        var datagram = datagram
        let plan = input.byte()
        let at = Wire.recordHeaderSize + from.layout.connectionID.count
        switch plan & 7 {
        case 0: datagram[input.number(below: datagram.count)] ^= 1 << (plan >> 5)
        case 1: datagram[datagram.count - 1 - Int(plan >> 3) % datagram.count] ^= input.byte()
        case 2: datagram[Int(plan >> 3) % datagram.count] ^= input.byte()
        case 3: datagram.removeLast(1 + input.number(below: datagram.count))
        case 4 where datagram.count >= at:
            // As long as it is now, so that nothing but the tag can tell.
            datagram.removeLast(input.number(below: datagram.count - at + 1))
            datagram.replaceSubrange((at - 2)..<at, with: Wire.big(UInt64((datagram.count - at) & 0xFFFF), 2))
        case 5 where datagram.count >= at:
            datagram += input.counted()
            datagram.replaceSubrange((at - 2)..<at, with: Wire.big(UInt64((datagram.count - at) & 0xFFFF), 2))
        case 6 where datagram.count >= at:
            datagram.replaceSubrange((at - 2)..<at, with: Wire.big(UInt64(input.uint16()), 2))
        default:
            guard datagram.count >= Wire.recordHeaderSize else { return datagram }
            let number = to.reader.number(near: input.byte(), next: from.nextNumber)
            datagram.replaceSubrange(5..<11, with: Wire.big(number, 6))
        }
        return datagram
    }
}
