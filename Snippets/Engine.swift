import DTLSCore

// One association without a socket: bytes and the time go in; datagrams, events and the next deadline come out.

// snippet.driver
final class Driver {
    let engine: DtlsEngine
    private let transmit: ([UInt8]) -> Void

    init(_ engine: DtlsEngine, transmit: @escaping ([UInt8]) -> Void) {
        self.engine = engine
        self.transmit = transmit
        engine.start()
        settle()
    }

    /// A datagram has come.
    func receive(_ datagram: [UInt8]) {
        engine.receive(datagram.span.bytes)
        settle()
    }

    /// The deadline has come. Too early does no harm.
    func timeout() {
        engine.handleTimeout()
        settle()
    }

    func send(_ payload: [UInt8]) throws(DtlsError) {
        // Also when it throws: it may have ended the association.
        defer { settle() }
        try engine.send(payload.span.bytes)
    }

    /// Whether the association is over: nothing comes of it any more.
    var hasEnded: Bool { engine.closeReason != nil }

    /// After each input: what is to be sent, what has happened, when to come back.
    private func settle() {
        while true {
            engine.drainOutbound { datagram in transmit(datagram.withUnsafeBytes { Array($0) }) }
            guard let event = engine.nextEvent() else { break }
            handle(event)
        }
        setTimer(engine.nextDeadline)
    }

    private func handle(_ event: DtlsEvent) {
        switch event {
        case .handshakeFinished(let negotiated):
            print("open: \(negotiated.cipherSuite)")
        case .applicationData:
            engine.drainApplicationData { payload in print("\(payload.byteCount) bytes") }
        case .closed(let reason):
            print("ended: \(reason)")
        case .preSharedKeyRequested:
            // Now or later: the handshake waits.
            engine.answer(.unknown)
        default:
            break
        }
    }
    // snippet.hide

    private func setTimer(_ deadline: ContinuousClock.Instant?) {}
    // snippet.show
}
// snippet.end

// snippet.gate
/// A server's side of strangers. Keeps associations by whatever stands for an address.
struct Doorkeeper: ~Copyable {
    /// An association, and the hello that began it.
    struct Peer {
        let hello: DtlsClientHello
        let driver: Driver
    }

    let context: DtlsEngineContext
    var gate: DtlsHelloGate
    var open: [[UInt8]: Peer] = [:]
    /// Those whose handshake is under way. A peer that starts anew is here and among the open ones.
    var newcomers: [[UInt8]: Peer] = [:]

    init(_ context: DtlsEngineContext) throws(DtlsError) {
        self.context = context
        gate = try DtlsHelloGate()
    }

    mutating func receive(
        _ datagram: [UInt8],
        from source: [UInt8],
        transmit: @escaping ([UInt8]) -> Void
    ) throws(DtlsError) {
        defer { settle(source) }
        guard DtlsHelloGate.startsWithClientHello(datagram.span.bytes) else {
            // Each drops what is for the other one.
            open[source]?.driver.receive(datagram)
            newcomers[source]?.driver.receive(datagram)
            return
        }
        // Of a stranger, or of a peer that starts anew.
        switch gate.judge(datagram.span.bytes, from: source) {
        case .ignore: break
        case .reply(let cookie): transmit(cookie)
        case .accept(let hello):
            let known = [newcomers[source], open[source]].compactMap { $0 }
            if let peer = known.first(where: { hello.isRepetition(of: $0.hello) }) {
                // It came again, because the answer was lost or is late.
                peer.driver.receive(datagram)
            } else {
                let engine = try DtlsEngine(server: context, hello: hello)
                newcomers[source] = Peer(hello: hello, driver: Driver(engine, transmit: transmit))
            }
        }
    }

    /// After each input, a timeout as well: a finished handshake takes the place of what was before, and what has ended
    /// is forgotten.
    mutating func settle(_ source: [UInt8]) {
        if let newcomer = newcomers[source], newcomer.driver.engine.isOpen {
            open[source] = newcomer
            newcomers[source] = nil
        }
        if open[source]?.driver.hasEnded == true { open[source] = nil }
        if newcomers[source]?.driver.hasEnded == true { newcomers[source] = nil }
    }
}
// snippet.end

let key = try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
// snippet.client
let context = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
let driver = Driver(try DtlsEngine(client: context, serverName: nil, preSharedKey: key)) { datagram in
    print("to the peer: \(datagram.count) bytes")
}
// snippet.end
driver.timeout()
