import DTLSCore

/// A client and a server that nothing stands between.
final class EnginePair {
    let client: Peer
    private(set) var server: Peer?
    private var gate: DtlsHelloGate
    let scenario: Scenario

    init(client: Peer, server: Peer?, gate: consuming DtlsHelloGate, scenario: Scenario) {
        self.client = client
        self.server = server
        self.gate = gate
        self.scenario = scenario
    }

    /// Delivers one datagram each way. Returns whether there was one.
    @discardableResult
    func step(now: ContinuousClock.Instant) -> Bool {
        let toServer = deliverToServer(now: now)
        return deliverToClient(now: now) || toServer
    }

    @discardableResult
    func deliverToServer(now: ContinuousClock.Instant) -> Bool {
        guard let datagram = client.takeDatagram() else { return false }
        if let server {
            server.receive(datagram, now: now)
            return true
        }
        switch gate.judge(datagram.span.bytes, from: [1], now: now) {
        case .ignore:
            break
        case .reply(let reply):
            client.receive(reply, now: now)
        case .accept(let hello):
            do { server = try scenario.makeServer(hello) } catch { violated("no server's engine: \(error)") }
            server?.start(now: now)
        }
        return true
    }

    @discardableResult
    func deliverToClient(now: ContinuousClock.Instant) -> Bool {
        guard let datagram = server?.takeDatagram() else { return false }
        client.receive(datagram, now: now)
        return true
    }

    func pump(now: ContinuousClock.Instant) {
        for _ in 0..<10_000 {
            guard step(now: now) else { return }
        }
        violated("the two answer each other without end")
    }
}
