import DTLS
import DTLSCore
import DTLSTestKit
import NIOCore
import NIOPosix
import XCTest

@testable import NIODTLS

/// Real sockets and loops, with this package on both sides or one of the library's own endpoints, or OpenSSL, on the
/// other.
final class LoopbackTests: XCTestCase {
    func testManyClients() async throws {
        let (server, address) = try await Loopback.bindServer()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                group.addTask {
                    let client = try await Loopback.connect(to: address, isConnected: number % 2 == 0)
                    try await Loopback.converse(client, address, count: 20, payload: "client \(number)")
                }
            }
            try await group.waitForAll()
        }
        try await server.close()
    }

    /// The library's client and this server, over a link that loses every fifth datagram.
    func testTheLibrarysClientOverABadLink() async throws {
        let (server, address) = try await Loopback.bindServer()
        let bad = DtlsLinkConditions(loss: 0.2, duplication: 0.05, delay: .milliseconds(1) ... .milliseconds(20))
        let port = try UInt16(XCTUnwrap(address.port))
        let relay = try DtlsTestRelay(
            to: DtlsAddress(ipAddress: "127.0.0.1", port: port),
            toServer: bad,
            toClient: bad,
            seed: 11
        )
        let client = try await DtlsClient.bind(host: "127.0.0.1")
        let connection = try await client.connect(
            to: relay.address,
            context: DtlsClientContext(preSharedKey: try Loopback.preSharedKey())
        )
        try relay.setConditions(toServer: DtlsLinkConditions(), toClient: DtlsLinkConditions())
        for number in 0..<20 {
            try await connection.send("\(number)")
            for try await answer in connection {
                XCTAssertEqual(String(decoding: answer, as: UTF8.self), "\(number)")
                break
            }
        }
        // It goes to another port, and the server follows.
        try await client.rebind(host: "127.0.0.1")
        try await connection.send("from another port")
        for try await answer in connection {
            XCTAssertEqual(String(decoding: answer, as: UTF8.self), "from another port")
            break
        }
        await client.close()
        await relay.close()
        try await server.close()
    }

    /// A channel that is closed in the midst of a read says so to its peers.
    func testClosingWhereAPayloadComesIn() async throws {
        let (_, address) = try await Loopback.bindServer(closesAtPayload: true)
        let port = try UInt16(XCTUnwrap(address.port))
        let client = try await DtlsClient.bind(host: "127.0.0.1")
        let connection = try await client.connect(
            to: DtlsAddress(ipAddress: "127.0.0.1", port: port),
            context: DtlsClientContext(preSharedKey: try Loopback.preSharedKey())
        )
        try await connection.send("the end")
        let alarm = Task {
            try await Task.sleep(for: .seconds(10), clock: .continuous)
            connection.close()
        }
        let reason = await connection.waitUntilClosed()
        alarm.cancel()
        XCTAssertEqual(reason, .closedByPeer)
        await client.close()
    }

    /// This client and the library's server, whose certificate it verifies, over a bad link.
    func testTheLibrarysServerOverABadLink() async throws {
        var serverSide = DtlsConfiguration()
        let identity = try DtlsIdentity.selfSigned(commonName: "gadget", names: ["gadget.example"])
        serverSide.identity = identity
        let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: DtlsServerContext(serverSide))
        let serving = Task {
            await server.serve { connection in
                for try await datagram in connection { try await connection.send(datagram) }
            }
        }
        let bad = DtlsLinkConditions(loss: 0.2, duplication: 0.05, delay: .milliseconds(1) ... .milliseconds(20))
        let relay = try DtlsTestRelay(to: server.localAddress, toServer: bad, toClient: bad, seed: 12)
        var clientSide = DtlsConfiguration()
        clientSide.trust = .certificates(identity.certificateChain)
        let place = try SocketAddress(ipAddress: "127.0.0.1", port: Int(relay.address.port))
        let client = try await Loopback.connect(
            to: place,
            isConnected: true,
            configuration: clientSide,
            serverName: "gadget.example"
        )
        try await Loopback.converse(client, place, count: 20, payload: "verified")
        // Its close_notify may be lost.
        await relay.close()
        await server.close()
        await serving.value

        // With another name it is an error of the channel.
        let other = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: DtlsServerContext(serverSide))
        let otherPlace = try SocketAddress(ipAddress: "127.0.0.1", port: Int(other.localAddress.port))
        let refusing = try await Loopback.connect(
            to: otherPlace,
            isConnected: false,
            configuration: clientSide,
            serverName: "other.example"
        )
        do {
            try await Loopback.converse(refusing, otherPlace, count: 1, payload: "never")
            XCTFail("a certificate of another name was accepted")
        } catch let error as DtlsError {
            XCTAssertEqual(error.code, .certificateRejected)
            XCTAssertNotNil(error.certificateVerdict)
        }
        await other.close()
    }

    /// OpenSSL's own client.
    func testOpenSSLClient() async throws {
        let (server, address) = try await Loopback.bindServer()
        let client = try HelperProgram(
            "openssl",
            [
                "s_client", "-dtls1_2", "-connect", "127.0.0.1:\(try XCTUnwrap(address.port))", "-psk_identity",
                "sensor-1", "-psk", "30313233343536373839616263646566", "-cipher", "PSK-AES128-GCM-SHA256",
            ]
        )
        defer { client.end() }
        try await eventually("the handshake") { client.text.contains("Cipher is PSK-AES128-GCM-SHA256") }
        try client.write("from openssl\n")
        // s_client does not show what it sends.
        try await eventually("the echo") { client.text.contains("from openssl") }
        try await server.close()
        try await eventually("its end") { client.status != nil }
    }

    /// The example, as two programs.
    func testTheExample() async throws {
        let arguments = ["127.0.0.1", "0", "sensor-1:secret"]
        let server = try HelperProgram.built("nio-dtls-echo", ["server"] + arguments, beside: LoopbackTests.self)
        defer { server.end() }
        try await eventually("its first line") { server.text.contains("\n") }
        let line = try XCTUnwrap(server.text.split(separator: "\n").first)
        let port = try XCTUnwrap(line.split(separator: ":").last)
        XCTAssertNotNil(UInt16(port), "\(line)")
        let client = try HelperProgram.built(
            "nio-dtls-echo",
            ["client", "127.0.0.1", "\(port)", "sensor-1:secret", "one", "two"],
            beside: LoopbackTests.self
        )
        defer { client.end() }
        try await eventually("its end") { client.status != nil }
        XCTAssertEqual(client.status, 0, client.text)
        XCTAssertEqual(client.text, "one\ntwo\n")
        try await eventually("the server's word") { server.text.contains("closed by the peer") }
    }
}
