import DTLS
import Logging
import XCTest

// No @testable here: whatever stands in this file can be written by those who use the library.

/// What a program looks like that imports nothing but `DTLS`.
final class PublicSurfaceTests: XCTestCase {
    func testEchoWithAPreSharedKey() async throws {
        let psk = try DtlsPreSharedKey(identity: "sensor-7", key: Array("0123456789abcdef".utf8))
        let serverContext = try DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([psk]))
        let server = try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: serverContext)
        let serving = Task {
            for await connection in server {
                Task {
                    for try await datagram in connection { try await connection.send(datagram) }
                }
            }
        }

        let client = try await DtlsClient.bind()
        let context = try DtlsClientContext(preSharedKey: psk)
        let connection = try await client.connect(to: "127.0.0.1", port: server.localAddress.port, context: context)
        try await connection.send("hello")
        for try await datagram in connection {
            XCTAssertEqual(String(decoding: datagram, as: UTF8.self), "hello")
            break
        }
        connection.close()
        await client.close()
        await server.close()
        await serving.value
    }

    func testCertificatesOnBothSides() async throws {
        let serverIdentity = try DtlsIdentity.selfSigned(commonName: "server", names: ["localhost"])
        let clientIdentity = try DtlsIdentity.selfSigned(commonName: "client")
        var serverSide = DtlsConfiguration()
        serverSide.identity = serverIdentity
        serverSide.trust = .certificates(clientIdentity.certificateChain)
        var clientSide = DtlsConfiguration()
        clientSide.identity = clientIdentity
        clientSide.trust = .certificates(serverIdentity.certificateChain)
        clientSide.handshakeTimeout = .seconds(10)
        clientSide.retransmission.initialTimeout = .milliseconds(200)

        let server = try await DtlsServer.bind(
            host: "127.0.0.1",
            port: 0,
            context: DtlsServerContext(serverSide, clientCertificates: .required),
            options: DtlsSocketOptions(receiveBufferSize: 1 << 20)
        )
        let client = try await DtlsClient.bind(options: DtlsSocketOptions(timeToLive: 32))
        let connection = try await client.connect(
            to: server.localAddress,
            context: DtlsClientContext(clientSide),
            serverName: "localhost",
            timeout: .seconds(10)
        )
        var connections = server.makeAsyncIterator()
        let accepted = await connections.next()
        XCTAssertEqual(accepted?.negotiated.peerCertificates.first, clientIdentity.certificateChain.first)
        XCTAssertEqual(connection.negotiated.peerCertificates.first?.dnsNames, ["localhost"])
        XCTAssertEqual(connection.negotiated.version, .v1_2)
        XCTAssertNotNil(connection.negotiated.group)
        await client.close()
        let reason = await accepted?.waitUntilClosed()
        XCTAssertEqual(reason, .closedByPeer)
        await server.close()
    }

    func testErrorsAreMatchedByTheirCode() async throws {
        let client = try await DtlsClient.bind(host: "127.0.0.1")
        let context = try DtlsClientContext(
            preSharedKey: DtlsPreSharedKey(identity: "nobody", key: [UInt8](repeating: 1, count: 16))
        )
        do {
            // Another client expects no clients.
            let nobody = try await DtlsClient.bind(host: "127.0.0.1")
            _ = try await client.connect(to: nobody.localAddress, context: context, timeout: .milliseconds(50))
            XCTFail("connected")
        } catch {
            switch error.code {
            case .handshakeTimedOut: XCTAssertFalse(error.description.isEmpty)
            default: throw error
            }
        }
        await client.close()
    }

    func testErrorsAreCaughtByTheirCode() throws {
        do {
            _ = try DtlsPreSharedKey(identity: "", key: [])
            XCTFail("an empty key was taken")
        } catch DtlsError.Code.invalidPreSharedKey {
            // The other way to match.
        }
    }

    func testALookUpALoggerAndTheLegacySuiteOfCoAP() async throws {
        let keys = ["gadget": [UInt8](repeating: 9, count: 16)]
        let store = DtlsPreSharedKeyStore { identity in
            await Task.yield()
            return keys[String(decoding: identity, as: UTF8.self)].map { DtlsSecretBytes($0) }
        }
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .openSSL("PSK-AES128-CCM8")
        let server = try await DtlsServer.bind(
            host: "127.0.0.1",
            port: 0,
            context: DtlsServerContext(configuration, preSharedKeys: store, identityHint: Array("hint".utf8)),
            logger: Logger(label: "server") { _ in SwiftLogNoOpLogHandler() }
        )
        let client = try await DtlsClient.bind(host: "127.0.0.1")
        let context = try DtlsClientContext(configuration) { hint in
            XCTAssertEqual(hint, Array("hint".utf8))
            return try? DtlsPreSharedKey(identity: "gadget", key: [UInt8](repeating: 9, count: 16))
        }
        let connection = try await client.connect(to: server.localAddress, context: context)
        XCTAssertEqual(connection.negotiated.cipherSuite.name, "TLS_PSK_WITH_AES_128_CCM_8")
        XCTAssertEqual(connection.state, .open)
        XCTAssertTrue(try connection.trySend(Array("at once".utf8)))
        XCTAssertGreaterThan(connection.maximumPayloadSize, 1_000)
        XCTAssertEqual(connection.statistics.payloadsSent, 1)
        XCTAssertEqual(connection.peerAddress, server.localAddress)
        XCTAssertNil(connection.closeReason)
        await server.close()
        let reason = await connection.waitUntilClosed()
        XCTAssertEqual("\(reason)", "closed by the peer")
        await client.close()
    }
}
