import DTLS
import DTLSTestKit
import DTLSTestSupport
import XCTest

/// Real clients and a real server, with a bad link in between.
final class RelayTests: XCTestCase {
    private func withServer(_ body: (DtlsServer) async throws -> Void) async throws {
        let keys = DtlsPreSharedKeyStore([try TestKey.right])
        let server = try await DtlsServer.bind(
            host: "127.0.0.1",
            port: 0,
            context: DtlsServerContext(preSharedKeys: keys)
        )
        let serving = Task {
            for await connection in server {
                Task { for try await datagram in connection { try await connection.send(datagram) } }
            }
        }
        do {
            try await body(server)
        } catch {
            await server.close()
            throw error
        }
        await server.close()
        await serving.value
    }

    func testClientsThroughABadLink() async throws {
        let conditions = DtlsLinkConditions(
            loss: 0.15,
            duplication: 0.1,
            reordering: 0.2,
            delay: .milliseconds(1) ... .milliseconds(6)
        )
        try await withServer { server in
            let relay = try DtlsTestRelay(
                to: server.localAddress,
                toServer: conditions,
                toClient: conditions,
                seed: 5
            )
            let context = try DtlsClientContext(preSharedKey: TestKey.right)
            let address = relay.address
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let client = try await DtlsClient.bind(host: "127.0.0.1")
                        let connection = try await client.connect(to: address, context: context)
                        // Sent until one of them comes back.
                        let sending = Task {
                            while !Task.isCancelled {
                                try await connection.send("hello")
                                try await Task.sleep(for: .milliseconds(20))
                            }
                        }
                        for try await datagram in connection {
                            XCTAssertEqual(String(decoding: datagram, as: UTF8.self), "hello")
                            break
                        }
                        sending.cancel()
                        await client.close()
                    }
                }
                try await group.waitForAll()
            }
            let counts = await relay.counts()
            XCTAssertGreaterThan(counts.toServer.lost + counts.toClient.lost, 5)
            XCTAssertGreaterThan(counts.toServer.duplicated + counts.toClient.duplicated, 2)
            await relay.close()
            await relay.close()
        }
    }

    func testTheMTUAndAChangeOfConditions() async throws {
        try await withServer { server in
            let relay = try DtlsTestRelay(to: server.localAddress, seed: 1)
            let client = try await DtlsClient.bind(host: "127.0.0.1")
            let context = try DtlsClientContext(preSharedKey: TestKey.right)
            let connection = try await client.connect(to: relay.address, context: context)
            try relay.setConditions(toServer: DtlsLinkConditions(mtu: 500), toClient: DtlsLinkConditions())
            try await connection.send([UInt8](repeating: 1, count: 600))
            try await connection.send([UInt8](repeating: 2, count: 400))
            for try await datagram in connection {
                XCTAssertEqual(Array(datagram), [UInt8](repeating: 2, count: 400))
                break
            }
            let counts = await relay.counts()
            XCTAssertEqual(counts.toServer.tooLarge, 1)
            XCTAssertThrowsError(
                try relay.setConditions(toServer: DtlsLinkConditions(loss: 7), toClient: DtlsLinkConditions())
            )
            await client.close()
            await relay.close()
        }
    }
}
