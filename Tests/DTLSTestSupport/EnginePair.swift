import DTLSCore
import Foundation

/// A client's and a server's engine, joined in memory by two links.
///
/// With a gate the server's engine is made as a server would: a stranger is judged, gets a HelloVerifyRequest, and has
/// an engine once it has brought the cookie back.
package final class EnginePair {
    package let client: EnginePeer

    /// `nil` until the gate has let the client in.
    package private(set) var server: EnginePeer?

    package var toServer: LossyLink
    package var toClient: LossyLink

    /// What the gate answered, one HelloVerifyRequest an element.
    package private(set) var gateReplies: [[UInt8]] = []

    /// Changes or holds back a datagram on its way; `nil` loses it.
    package var rewriteToServer: ([UInt8]) -> [UInt8]? = { $0 }
    package var rewriteToClient: ([UInt8]) -> [UInt8]? = { $0 }

    private let options: PairOptions
    private let serverContext: DtlsEngineContext
    private var gate: DtlsHelloGate
    /// Datagrams take no time.
    private let instant = ContinuousClock.now

    /// Stands for the client's address and port.
    package static let clientAddress: [UInt8] = [192, 0, 2, 1, 0x16, 0x34]

    package init(_ options: PairOptions) throws {
        self.options = options
        toServer = LossyLink(options.link, seed: options.seed)
        toClient = LossyLink(options.link, seed: options.seed ^ 0xFFFF_FFFF)
        gate = try DtlsHelloGate()
        let clientContext = try DtlsEngineContext(
            client: options.client,
            usesPreSharedKeys: options.clientUsesKeys,
            verification: options.verification
        )
        serverContext = try DtlsEngineContext(
            server: options.server,
            usesPreSharedKeys: options.serverKeys != nil,
            preSharedKeys: options.serverEngineKnowsKeys ? options.serverKeys?.mapValues { DtlsSecretBytes($0) } : nil,
            identityHint: options.identityHint,
            unknownIdentity: options.unknownIdentity,
            clientCertificates: options.clientCertificates
        )
        client = EnginePeer(
            try DtlsEngine(
                client: clientContext,
                serverName: options.serverName,
                preSharedKey: options.clientKey,
                usesIPv6: options.usesIPv6
            ),
            answer: { _ in options.clientAnswer }
        )
        if !options.usesGate { server = try makeServer(nil) }
    }

    private func makeServer(_ hello: DtlsClientHello?) throws -> EnginePeer {
        let options = self.options
        return EnginePeer(
            try DtlsEngine(server: serverContext, hello: hello, usesIPv6: options.usesIPv6),
            answer: { request in
                guard !options.serverAnswersLater, case .identity(let identity, _) = request else { return .later }
                return .server(options.serverKeys?[identity].map { DtlsSecretBytes($0) })
            }
        )
    }

    /// Starts both sides, without delivering anything.
    package func start(now: ContinuousClock.Instant = .now) {
        client.start(now: now)
        server?.start(now: now)
    }

    /// Starts both sides and lets datagrams travel until nothing moves. No time passes.
    package func connect() throws {
        start()
        try pump()
    }

    /// Lets datagrams travel until nothing moves. No time passes.
    package func pump() throws {
        for _ in 0..<100_000 {
            guard try step() else { return }
        }
        throw EndlessConversation()
    }

    /// The engines answer each other without end.
    package struct EndlessConversation: Error {}

    /// Delivers at most one datagram in each direction. Returns whether something moved.
    package func step() throws -> Bool {
        for datagram in client.takeOutbox() { rewriteToServer(datagram).map { toServer.send($0, now: instant) } }
        for datagram in server?.takeOutbox() ?? [] { rewriteToClient(datagram).map { toClient.send($0, now: instant) } }
        var moved = false
        if let datagram = toServer.receive(now: instant) {
            moved = true
            try deliverToServer(datagram)
        }
        if let datagram = toClient.receive(now: instant) {
            moved = true
            client.receive(datagram)
        }
        return moved
    }

    private func deliverToServer(_ datagram: [UInt8]) throws {
        if let server { return server.receive(datagram) }
        switch gate.judge(datagram.span.bytes, from: Self.clientAddress) {
        case .ignore:
            break
        case .reply(let reply):
            gateReplies.append(reply)
            toClient.send(reply, now: instant)
        case .accept(let hello):
            let peer = try makeServer(hello)
            server = peer
            peer.start()
        }
    }

    /// Calls each side's ``DtlsEngine/handleTimeout(now:)`` if its deadline has come.
    package func fireTimers(now: ContinuousClock.Instant = .now) {
        for peer in [client, server].compactMap({ $0 }) {
            if let deadline = peer.engine.nextDeadline, deadline <= now { peer.handleTimeout(now: now) }
        }
    }

    /// The earliest deadline of both sides.
    package var nextDeadline: ContinuousClock.Instant? {
        [client.engine.nextDeadline, server?.engine.nextDeadline].compactMap { $0 }.min()
    }

    package var isOpen: Bool { client.engine.isOpen && server?.engine.isOpen == true }

    /// Lets datagrams travel and time pass until `condition` holds. Returns whether it does.
    ///
    /// OpenSSL's retransmission timer reads the clock, so time has to pass; it waits for the engines' own deadlines.
    package func run(within limit: Duration = .seconds(20), until condition: () -> Bool) throws -> Bool {
        try EnginePair.run([self], within: limit) { _ in condition() }
    }

    /// Does the same for many pairs at once, each until `isDone` holds for it.
    package static func run(
        _ pairs: [EnginePair],
        within limit: Duration = .seconds(20),
        until isDone: (EnginePair) -> Bool
    ) throws -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + limit
        var pending = pairs
        while true {
            for pair in pending {
                pair.fireTimers(now: clock.now)
                try pair.pump()
            }
            pending.removeAll(where: isDone)
            if pending.isEmpty { return true }
            let now = clock.now
            guard now < end, let next = pending.compactMap(\.nextDeadline).min() else { return false }
            if next > now {
                let wait = Swift.min(next - now, .milliseconds(5))
                Thread.sleep(forTimeInterval: Double(wait.components.attoseconds) / 1e18)
            }
        }
    }
}
