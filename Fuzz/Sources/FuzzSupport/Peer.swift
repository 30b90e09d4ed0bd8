import DTLSCore

/// One side of an association: its engine, and everything that came out of it.
final class Peer {
    let engine: DtlsEngine
    private(set) var payloads: [[UInt8]] = []
    /// Every datagram that it sent.
    private(set) var sent: [[UInt8]] = []
    /// Whether the engine's questions are answered at once.
    var answersAtOnce = true
    private(set) var openings = 0
    private(set) var endings = 0
    private var undelivered = 0
    private var questions: [DtlsEvent] = []
    private let answers: Scenario

    init(_ engine: DtlsEngine, answers: Scenario) {
        self.engine = engine
        self.answers = answers
    }

    func start(now: ContinuousClock.Instant) {
        engine.start(now: now)
        settle(now: now)
    }

    func receive(_ datagram: [UInt8], now: ContinuousClock.Instant) {
        engine.receive(datagram.span.bytes, now: now)
        settle(now: now)
    }

    func handleTimeout(now: ContinuousClock.Instant) {
        engine.handleTimeout(now: now)
        settle(now: now)
    }

    func close(now: ContinuousClock.Instant) {
        engine.close()
        settle(now: now)
    }

    /// Whether it was sent.
    func send(_ payload: [UInt8], now: ContinuousClock.Instant) -> Bool {
        defer { settle(now: now) }
        do {
            try engine.send(payload.span.bytes)
            return true
        } catch {
            _ = error.description
            return false
        }
    }

    /// Those that the other side has been given, in their order.
    var delivered: ArraySlice<[UInt8]> { sent[..<undelivered] }

    /// The oldest datagram that nobody has taken.
    func takeDatagram() -> [UInt8]? {
        guard undelivered < sent.count else { return nil }
        defer { undelivered += 1 }
        return sent[undelivered]
    }

    /// Answers the oldest question that is open. Returns whether there was one.
    @discardableResult
    func answerQuestion(agreeing: Bool = true, now: ContinuousClock.Instant) -> Bool {
        guard !questions.isEmpty else { return false }
        answers.answer(questions.removeFirst(), of: engine, agreeing: agreeing, now: now)
        settle(now: now)
        return true
    }

    private func settle(now: ContinuousClock.Instant) {
        engine.drainOutbound { span in sent.append(span.withUnsafeBytes { Array($0) }) }
        while let event = engine.nextEvent() {
            require(endings == 0, "an event after the end: \(event)")
            switch event {
            case .applicationData:
                engine.drainApplicationData { span in payloads.append(span.withUnsafeBytes { Array($0) }) }
            case .preSharedKeyRequested, .certificatesPresented, .helloReceived:
                questions.append(event)
            case .handshakeFinished(let negotiated):
                openings += 1
                _ = (negotiated.peerCertificates, negotiated.cipherSuite.description, negotiated.applicationProtocol)
            case .closed(let reason):
                endings += 1
                _ = reason.description
            case .sessionEstablished(let session):
                answers.keep(session)
            }
        }
        require(openings <= 1 && endings <= 1, "\(openings) openings, \(endings) endings")
        require((endings == 1) == (engine.closeReason != nil), "the end was not told")
        if let deadline = engine.nextDeadline { require(deadline > now - .seconds(86_400), "a deadline long ago") }
        if answersAtOnce { answerQuestion(now: now) }
    }
}
