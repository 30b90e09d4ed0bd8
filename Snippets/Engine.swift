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
/// A server's side of strangers. `peers` has the associations by whatever stands for an address.
struct Doorkeeper: ~Copyable {
    let context: DtlsEngineContext
    var gate: DtlsHelloGate
    var peers: [[UInt8]: Driver] = [:]

    init(_ context: DtlsEngineContext) throws(DtlsError) {
        self.context = context
        gate = try DtlsHelloGate()
    }

    mutating func receive(
        _ datagram: [UInt8],
        from source: [UInt8],
        transmit: @escaping ([UInt8]) -> Void
    ) throws(DtlsError) {
        if let peer = peers[source] { return peer.receive(datagram) }
        switch gate.judge(datagram.span.bytes, from: source) {
        case .ignore: break
        case .reply(let cookie): transmit(cookie)
        case .accept(let hello):
            peers[source] = Driver(try DtlsEngine(server: context, hello: hello), transmit: transmit)
        }
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
