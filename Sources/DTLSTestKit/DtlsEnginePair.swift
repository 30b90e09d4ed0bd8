public import DTLSCore

/// A client's and a server's ``/DTLSCore/DtlsEngine`` in one process, joined by two links that may be bad.
///
/// Nothing happens by itself: call ``start(now:)``, then ``advance(to:)`` as time goes on, or let
/// ``run(within:isolation:until:)`` do it in real time. What the links do depends on their seeds alone.
///
/// **How far the clock may be made up.** The instants that you pass decide when datagrams arrive and when handshakes
/// time out, so an hour of delay costs nothing. When a lost flight is sent again is up to OpenSSL, whose timer reads
/// the system's clock; on a clock that is made up the engine itself repeats it, but only after about twice the wait,
/// and without the answer to what the peer repeats. A handshake over a link that loses something therefore belongs into
/// ``run(within:isolation:until:)``, and how long it takes is not the same in each run, nor which datagram is the n-th;
/// keys and randoms are new each time as well.
///
/// It belongs to one thread or actor at a time, like the engines in it.
public final class DtlsEnginePair {
    /// The client's engine. Drive it through this object: what it has to hand out is taken after each call here.
    public let client: DtlsEngine

    /// The server's engine; `nil` until the gate has let the client in.
    public private(set) var server: DtlsEngine?

    /// The way from the client to the server. Change its conditions at any time.
    public var toServer: DtlsTestLink

    /// The way from the server to the client. Change its conditions at any time.
    public var toClient: DtlsTestLink

    /// What the client's engine had to tell, in order.
    public private(set) var clientEvents: [DtlsEvent] = []

    /// What the server's engine had to tell, in order.
    public private(set) var serverEvents: [DtlsEvent] = []

    /// The payloads that reached the client, in order.
    public private(set) var clientPayloads: [[UInt8]] = []

    /// The payloads that reached the server, in order.
    public private(set) var serverPayloads: [[UInt8]] = []

    /// Called with each event, of the client's engine or the server's, when it comes: the place to answer the questions
    /// among them. It is called before the call that brought the event about returns, and may call the engine. `nil`,
    /// the default, answers nothing.
    public var onEvent: ((DtlsRole, DtlsEvent, DtlsEngine) -> Void)?

    private let serverContext: DtlsEngineContext
    private var gate: DtlsHelloGate?

    /// Stands for the client's address and port.
    private static let clientAddress: [UInt8] = [192, 0, 2, 1, 0x16, 0x34]

    /// Makes a pair.
    ///
    /// - Parameters:
    ///   - client: The client's engine, not started.
    ///   - server: The context of the server's engine, which is made when the client has passed the gate.
    ///   - conditions: What both links do to datagrams. Default: nothing.
    ///   - seed: Decides what becomes of each datagram. The two links do not do the same for it.
    ///   - usesGate: Whether the client meets a ``/DTLSCore/DtlsHelloGate`` first, as on the Internet, or the server's
    ///     engine at once. Default: a gate.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for conditions out of their range and
    ///   for a context of the wrong role; ``/DTLSCore/DtlsError/Code-swift.struct/internalFailure`` when OpenSSL has no
    ///   memory.
    public init(
        client: DtlsEngine,
        server: DtlsEngineContext,
        conditions: DtlsLinkConditions = DtlsLinkConditions(),
        seed: UInt64,
        usesGate: Bool = true
    ) throws(DtlsError) {
        try conditions.validate()
        self.client = client
        serverContext = server
        toServer = DtlsTestLink(conditions, seed: seed)
        toClient = DtlsTestLink(conditions, seed: ~seed)
        if usesGate {
            gate = try DtlsHelloGate()
            // One that cannot be made now cannot be made for a hello either, where nobody would learn of it.
            _ = try DtlsEngine(server: server)
        } else {
            self.server = try DtlsEngine(server: server)
        }
    }

    /// Whether both sides are open.
    public var isOpen: Bool { client.isOpen && server?.isOpen == true }

    /// When ``advance(to:)`` has something to do: a datagram arrives or an engine's deadline comes. `nil` when neither
    /// will.
    public var nextDeadline: ContinuousClock.Instant? {
        var next = toServer.nextArrival
        for candidate in [toClient.nextArrival, client.nextDeadline, server?.nextDeadline] {
            guard let candidate else { continue }
            next = next.map { Swift.min($0, candidate) } ?? candidate
        }
        return next
    }

    /// Starts the handshake: the client's hello is on its way. A second call does nothing.
    public func start(now: ContinuousClock.Instant) {
        client.start(now: now)
        server?.start(now: now)
        settle(now: now)
    }

    /// Sends a payload from one side to the other.
    ///
    /// - Parameters:
    ///   - payload: 1 to ``/DTLSCore/DtlsEngine/maximumPayloadSize`` bytes.
    ///   - role: Who sends it.
    ///   - now: The time, at which the datagram enters the link.
    /// - Throws: What ``/DTLSCore/DtlsEngine/send(_:)`` throws;
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/connectionClosed`` also where there is no server yet.
    public func send(_ payload: [UInt8], from role: DtlsRole, now: ContinuousClock.Instant) throws(DtlsError) {
        guard let engine = role == .client ? client : server else {
            throw DtlsError(.connectionClosed, phase: .handshake, "the server has not let the client in")
        }
        defer { settle(now: now) }
        try engine.send(payload.span.bytes)
    }

    /// Closes one side. The other learns it if the datagram arrives.
    public func close(_ role: DtlsRole, now: ContinuousClock.Instant) {
        (role == .client ? client : server)?.close()
        settle(now: now)
    }

    /// Delivers the datagrams that have arrived by `now`, tells the engines whose deadlines have come, and goes on
    /// until nothing is left to do at that time.
    ///
    /// Engines that answer each other without end, over a link that takes no time, are left after 100,000 datagrams.
    public func advance(to now: ContinuousClock.Instant) {
        settle(now: now)
        for engine in [client, server] {
            if let engine, let deadline = engine.nextDeadline, deadline <= now { engine.handleTimeout(now: now) }
        }
        settle(now: now)
        for _ in 0..<100_000 {
            let atServer = toServer.receive(now: now)
            if let atServer { deliverToServer(atServer, now: now) }
            let atClient = toClient.receive(now: now)
            if let atClient { client.receive(atClient.span.bytes, now: now) }
            guard atServer != nil || atClient != nil else { return }
            settle(now: now)
        }
    }

    /// Lets real time pass, datagrams arrive and timers fire, until `condition` holds.
    ///
    /// - Parameters:
    ///   - limit: For how long.
    ///   - isolation: The caller's actor, which everything here runs on.
    ///   - condition: Asked after each step.
    /// - Returns: Whether it holds; `false` after `limit`, when the task is cancelled, or when nothing can happen any
    ///   more.
    public func run(
        within limit: Duration,
        isolation: isolated (any Actor)? = #isolation,
        until condition: (DtlsEnginePair) -> Bool
    ) async -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + limit
        while true {
            advance(to: clock.now)
            if condition(self) { return true }
            guard let next = nextDeadline, clock.now < end, !Task.isCancelled else { return false }
            try? await clock.sleep(until: Swift.min(next, end))
        }
    }

    private func deliverToServer(_ datagram: [UInt8], now: ContinuousClock.Instant) {
        if let server {
            server.receive(datagram.span.bytes, now: now)
            return
        }
        switch gate?.judge(datagram.span.bytes, from: Self.clientAddress, now: now) {
        case .ignore?, nil:
            break
        case .reply(let reply)?:
            toClient.send(reply, now: now)
        case .accept(let hello)?:
            // Without memory for an engine the hello counts as lost.
            guard let engine = try? DtlsEngine(server: serverContext, hello: hello) else { return }
            server = engine
            engine.start(now: now)
        }
    }

    /// Takes what the engines have to hand out.
    private func settle(now: ContinuousClock.Instant) {
        settle(client, .client, now: now)
        if let server { settle(server, .server, now: now) }
    }

    private func settle(_ engine: DtlsEngine, _ role: DtlsRole, now: ContinuousClock.Instant) {
        repeat {
            engine.drainOutbound { span in
                let datagram = span.withUnsafeBytes { Array($0) }
                if role == .client { toServer.send(datagram, now: now) } else { toClient.send(datagram, now: now) }
            }
            guard let event = engine.nextEvent() else { return }
            if case .applicationData = event {
                engine.drainApplicationData { span in
                    let payload = span.withUnsafeBytes { Array($0) }
                    if role == .client { clientPayloads.append(payload) } else { serverPayloads.append(payload) }
                }
            }
            if role == .client { clientEvents.append(event) } else { serverEvents.append(event) }
            onEvent?(role, event, engine)
        } while true
    }
}
