import DTLS
import Foundation
import XCTest

/// The example as a program of its own, which is told to end as a service manager does it.
final class ProgramTests: XCTestCase {
    /// SIGTERM: its clients are told, get answers until they go, and then it ends with status 0.
    func testTermination() async throws {
        try await withDeadline {
            let arguments = ["0", "sensor-1:0123456789abcdef"]
            let program = try HelperProgram.built("dtls-echo-service", arguments, beside: ProgramTests.self)
            defer { program.end() }
            try await eventually("its first line") { program.text.contains(/listening on .*\n/) }
            let line = try XCTUnwrap(program.text.split(separator: "\n").first { $0.hasPrefix("listening on ") })
            let port = try XCTUnwrap(line.split(separator: ":").last.flatMap { UInt16($0) }, "\(line)")
            let client = try await DtlsClient.bind(host: "127.0.0.1")
            let server = try DtlsAddress(ipAddress: "127.0.0.1", port: port)
            let connection = try await client.connect(to: server, context: Support.clientContext())
            try await connection.expectEcho("before")
            program.send(signal: SIGTERM)
            let text = try await connection.receiveText()
            XCTAssertEqual(text, "going away")
            try await connection.expectEcho("still served")
            XCTAssertNil(program.status)
            connection.close()
            try await eventually("its end") { program.status != nil }
            XCTAssertEqual(program.status, 0, program.text)
            for metric in [
                "dtls_handshakes_completed_total 1", "dtls_payloads_total{direction=\"received\"} 2",
                "dtls_payloads_total{direction=\"sent\"} 3",
            ] {
                try await eventually(metric) { program.text.contains(metric + "\n") }
            }
            await client.close()
        }
    }
}
