import DTLSCore
import Logging
import XCTest

@testable import DTLS

final class LoggingTests: XCTestCase {
    /// What comes to the process's own log. `bootstrap` may be called once in a process.
    private static let processLog = {
        let collector = LogCollector()
        LoggingSystem.bootstrap { _ in collector }
        return collector
    }()

    func testNothingIsLoggedUnlessALoggerIsGiven() async throws {
        try await withDeadline {
            let log = Self.processLog
            Logger(label: "check").warning("the log is heard")
            XCTAssertEqual(log.messages.count, 1)
            let loopback = try await Loopback()
            try await loopback.near.expectArrival(at: loopback.far)
            let stranger = try Credentials.preSharedKey("stranger")
            let client = try await DtlsClient.onLoopback()
            _ = await failure {
                try await client.connect(
                    to: loopback.server.localAddress,
                    context: .preSharedKey(stranger, .lessEager),
                    timeout: .milliseconds(300)
                )
            }
            await client.close()
            await loopback.close()
            XCTAssertEqual(log.messages.count, 1, "\(log.messages)")
        }
    }

    func testTheLogNamesPeersAndReasonsButNeverAKey() async throws {
        try await withDeadline {
            let (clientLog, serverLog) = (LogCollector(), LogCollector())
            let server = try await DtlsServer.bind(
                host: "127.0.0.1",
                port: 0,
                context: .preSharedKey(.eager),
                logger: serverLog.logger
            )
            let client = try await DtlsClient.bind(host: "127.0.0.1", logger: clientLog.logger)
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            try await near.send("a payload that nobody must see")
            _ = try await server.accept().receive()
            near.close()

            // An identity with what a log must not pass on.
            let hostile = try DtlsPreSharedKey(
                identity: Array("evil\u{1B}[2J\r\nroot: logged in".utf8),
                key: DtlsSecretBytes(Credentials.key)
            )
            let error = await failure {
                try await client.connect(to: server.localAddress, context: .preSharedKey(hostile, .lessEager))
            }
            XCTAssertEqual(error?.code, .authenticationFailed)
            await client.close()
            await server.close()

            for log in [clientLog, serverLog] {
                XCTAssertTrue(log.messages.contains { $0.contains("handshake finished") }, "\(log.messages)")
                XCTAssertTrue(log.messages.contains { $0.contains("connection ended") }, "\(log.messages)")
            }
            let clientAddress = client.localAddress.description
            XCTAssertTrue(serverLog.messages.allSatisfy { $0.contains(clientAddress) }, "\(serverLog.messages)")
            let secrets = [Credentials.key, Array("a payload that nobody must see".utf8)].flatMap { secret in
                [
                    String(decoding: secret, as: UTF8.self), secret.map { String($0, radix: 16) }.joined(),
                    secret.map { String($0, radix: 16) }.joined(separator: " "), "\(secret)",
                ]
            }
            for message in clientLog.messages + serverLog.messages + [error?.description ?? ""] {
                for secret in secrets { XCTAssertFalse(message.lowercased().contains(secret.lowercased()), message) }
                XCTAssertFalse(message.unicodeScalars.contains { $0.value < 0x20 }, "a control character was logged")
            }
        }
    }
}
