/// One request after the other, each until it is answered or given up: CoAP's part of the program, without a connection
/// and without a clock. Datagrams and the time go in, ``Output`` comes out.
///
/// There is one exchange at a time, as RFC 7252 §4.7 (NSTART) wants it.
struct Pinger<Generator: RandomNumberGenerator> {
    /// What is asked.
    enum Request: Equatable, Sendable {
        /// An empty message, to be answered with a Reset.
        case ping
        /// A GET of the resource that the options name.
        case get([CoAPMessage.Option])
    }

    struct Settings: Sendable {
        var request = Request.ping
        /// How many; nil means until it is stopped.
        var count: Int?
        /// From the beginning of an exchange to that of the next one, at least.
        var interval: Duration = .seconds(1)
        /// How long an exchange may take.
        var timeout: Duration = .seconds(10)
        var transmission = Transmission()
    }

    enum Output: Equatable, Sendable {
        case send([UInt8])
        case answered(Answer)
        case unanswered(sequence: Int, sent: Int)
    }

    struct Answer: Equatable, Sendable {
        let sequence: Int
        let message: CoAPMessage
        /// Since the request was sent for the first time.
        let roundTrip: Duration
        /// How many times the request was sent.
        let sent: Int
    }

    private struct Exchange {
        let sequence: Int
        let request: CoAPMessage
        let datagram: [UInt8]
        let start: ContinuousClock.Instant
        let deadline: ContinuousClock.Instant
        var sent = 1
        var wait: Duration
        /// Nil once the server has acknowledged the request, whose response comes apart then (RFC 7252 §5.2.2).
        var nextTransmission: ContinuousClock.Instant?
        var isOver = false
    }

    private let settings: Settings
    private var generator: Generator
    private var messageID: UInt16
    /// The one under way, and those before, whose answers may come late or twice.
    private var exchanges: [Exchange] = []
    private var nextStart: ContinuousClock.Instant?
    private var outputs: [Output] = []

    private(set) var tally = Tally()

    private static var rememberedExchanges: Int { 16 }

    init(_ settings: Settings, generator: Generator) {
        self.settings = settings
        self.generator = generator
        messageID = self.generator.next()
    }

    /// Whether all requests have been made and are over.
    var isDone: Bool { nextStart == nil && current == nil }

    /// When to call ``handleTimeout(now:)``.
    var nextDeadline: ContinuousClock.Instant? {
        guard let current else { return nextStart }
        return current.nextTransmission.map { min($0, current.deadline) } ?? current.deadline
    }

    /// What there is to do, oldest first.
    mutating func takeOutputs() -> [Output] {
        defer { outputs = [] }
        return outputs
    }

    mutating func start(now: ContinuousClock.Instant) {
        nextStart = now
        handleTimeout(now: now)
    }

    mutating func handleTimeout(now: ContinuousClock.Instant) {
        if let current, now >= current.deadline || isExhausted(current, now: now) {
            exchanges[exchanges.count - 1].isOver = true
            tally.unanswered += 1
            outputs.append(.unanswered(sequence: current.sequence, sent: current.sent))
        } else if let current, let due = current.nextTransmission, now >= due {
            exchanges[exchanges.count - 1].sent += 1
            exchanges[exchanges.count - 1].wait *= 2
            exchanges[exchanges.count - 1].nextTransmission = now + current.wait * 2
            tally.retransmissions += 1
            outputs.append(.send(current.datagram))
        }
        if current == nil, let nextStart, now >= nextStart { begin(now: now) }
    }

    /// Takes a datagram, whatever it holds.
    mutating func receive(_ datagram: [UInt8], now: ContinuousClock.Instant) {
        guard let message = try? CoAPMessage(datagram) else {
            tally.ignored += 1
            return
        }
        guard let index = exchanges.lastIndex(where: { Self.answers(message, $0.request) }) else {
            tally.ignored += 1
            // Neither a ping of the server's nor any other request of it is answered otherwise (RFC 7252 §4.2, §4.3).
            if message.kind == .confirmable { send(message.rejection) }
            return
        }
        // Also when it is repeated: then the acknowledgement was lost.
        if message.kind == .confirmable { send(message.acknowledgement) }
        if message.kind == .acknowledgement, message.code == .empty, exchanges[index].request.code != .empty {
            exchanges[index].nextTransmission = nil
        } else if exchanges[index].isOver {
            tally.lateOrRepeated += 1
        } else {
            finish(index, message, now: now)
        }
    }

    private var current: Exchange? { exchanges.last.flatMap { $0.isOver ? nil : $0 } }

    /// Whether the last wait has passed, too.
    private func isExhausted(_ exchange: Exchange, now: ContinuousClock.Instant) -> Bool {
        guard let due = exchange.nextTransmission else { return false }
        return now >= due && exchange.sent > settings.transmission.maximumRetransmissions
    }

    /// RFC 7252 §4.2 and §5.3.2: by the message ID, and by the token where there is one.
    private static func answers(_ message: CoAPMessage, _ request: CoAPMessage) -> Bool {
        switch message.kind {
        case .reset: message.code == .empty && message.messageID == request.messageID
        case .acknowledgement:
            message.messageID == request.messageID
                && (message.code == .empty || message.code.isResponse && message.token == request.token)
        case .confirmable, .nonConfirmable:
            request.code != .empty && message.code.isResponse && message.token == request.token
        }
    }

    private mutating func begin(now: ContinuousClock.Instant) {
        messageID &+= 1
        let request: CoAPMessage
        switch settings.request {
        case .ping:
            request = .ping(messageID: messageID)
        case .get(let options):
            request = CoAPMessage(
                kind: .confirmable,
                code: .get,
                messageID: messageID,
                token: (0..<4).map { _ in generator.next() },
                options: options
            )
        }
        guard let datagram = request.encoded else {
            nextStart = nil
            return
        }
        let wait = settings.transmission.firstWait(using: &generator)
        tally.requests += 1
        if exchanges.count == Self.rememberedExchanges { exchanges.removeFirst() }
        exchanges.append(
            Exchange(
                sequence: tally.requests,
                request: request,
                datagram: datagram,
                start: now,
                deadline: now + settings.timeout,
                wait: wait,
                nextTransmission: now + wait
            )
        )
        nextStart = tally.requests == settings.count ? nil : now + settings.interval
        outputs.append(.send(datagram))
    }

    private mutating func finish(_ index: Int, _ message: CoAPMessage, now: ContinuousClock.Instant) {
        exchanges[index].isOver = true
        let exchange = exchanges[index]
        let roundTrip = now - exchange.start
        tally.roundTrips.add(roundTrip)
        outputs.append(
            .answered(
                Answer(sequence: exchange.sequence, message: message, roundTrip: roundTrip, sent: exchange.sent)
            )
        )
    }

    private mutating func send(_ message: CoAPMessage) {
        if let datagram = message.encoded { outputs.append(.send(datagram)) }
    }
}
