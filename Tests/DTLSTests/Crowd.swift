import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Clients, each with a socket of its own, and their connections with one server.
struct Crowd: Sendable {
    let clients: [DtlsClient]
    /// The ends of the connections: the client's and the server's.
    let pairs: [(near: DtlsConnection, far: DtlsConnection)]

    init(of count: Int, at server: DtlsServer, _ context: DtlsClientContext? = nil) async throws {
        let context = try context ?? .preSharedKey()
        var clients: [DtlsClient] = []
        var pairs: [(near: DtlsConnection, far: DtlsConnection)] = []
        for _ in 0..<count {
            let client = try await DtlsClient.onLoopback()
            let near = try await client.connect(to: server.localAddress, context: context)
            pairs.append((near, try await server.accept()))
            clients.append(client)
        }
        self.clients = clients
        self.pairs = pairs
    }

    private init(_ clients: [DtlsClient], _ pairs: [(near: DtlsConnection, far: DtlsConnection)]) {
        self.clients = clients
        self.pairs = pairs
    }

    /// The same clients, whose connections have gone over to another server.
    func at(_ server: DtlsServer) async throws -> Crowd {
        var arrived: [DtlsAddress: DtlsConnection] = [:]
        for _ in pairs {
            let far = try await server.accept()
            arrived[far.peerAddress] = far
        }
        return Crowd(clients, try pairs.map { ($0.near, try XCTUnwrap(arrived[$0.far.peerAddress])) })
    }

    /// Sends something from either end of each connection to the other.
    func expectArrivals() async throws {
        for (index, pair) in pairs.enumerated() {
            try await pair.near.expectArrival(at: pair.far, "to \(index)")
            try await pair.far.expectArrival(at: pair.near, "from \(index)")
        }
    }

    /// Gives each client another port, where its connection finds it.
    func move() async throws {
        for (client, pair) in zip(clients, pairs) {
            try await client.rebind(host: "127.0.0.1")
            try await pair.near.expectArrival(at: pair.far, "from elsewhere")
            XCTAssertEqual(pair.far.peerAddress, client.localAddress)
        }
    }

    func close() async {
        for client in clients { await client.close() }
    }
}

extension DtlsServer {
    /// - Parameter steers: Whether the kernel is told to look at Connection IDs.
    static func onLoopback(
        _ context: DtlsServerContext? = nil,
        port: UInt16 = 0,
        loops: Int,
        steers: Bool = true,
        limits: DtlsServerLimits = DtlsServerLimits()
    ) async throws -> DtlsServer {
        var plan = try ServerPlan(
            context: context ?? .preSharedKey(),
            loops: loops,
            limits: limits,
            cookieSecrets: nil,
            admitsAddress: nil,
            handshakeFailed: nil,
            logger: nil,
            associations: nil
        )
        plan.steers = steers
        let sockets = try await UDPSocket.bind(
            host: "127.0.0.1",
            port: port,
            options: DtlsSocketOptions(),
            count: loops
        )
        return DtlsServer(sockets, plan)
    }

    /// Which loop a connection has.
    func loop(of connection: DtlsConnection) -> Int? {
        endpoints.firstIndex { $0 === connection.association.owner }
    }

    /// How many datagrams have come to each loop.
    var datagramsByLoop: [Int] { endpoints.map { $0.statistics.datagramsReceived } }

    /// How many datagrams have come to another loop than their connection's.
    var strayCount: Int { endpoints.reduce(0) { $0 + $1.strays.withLock { $0.count } } }
}
