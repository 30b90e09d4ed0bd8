import DTLS
import DTLSTestKit

// A relay on loopback that puts a bad link between any real clients and a server: every fifth datagram is lost, the rest come late, some twice.
func relay(to server: DtlsServer) throws -> DtlsTestRelay {
    let bad = DtlsLinkConditions(loss: 0.2, duplication: 0.05, delay: .milliseconds(20) ... .milliseconds(80))
    return try DtlsTestRelay(to: server.localAddress, toServer: bad, toClient: bad, seed: 7)
}

// Without sockets: two engines, joined by links that do the same for the same seed.
func meet(_ client: DtlsEngine, _ server: DtlsEngineContext) async throws -> Bool {
    let conditions = DtlsLinkConditions(loss: 0.1, reordering: 0.2, corruption: 0.01, mtu: 1_200)
    let pair = try DtlsEnginePair(client: client, server: server, conditions: conditions, seed: 7)
    pair.start(now: .now)
    return await pair.run(within: .seconds(10)) { $0.isOpen }
}
