import DTLS
import Foundation
import XCTest

/// What the example programs do beside talking: captures, sessions that outlive a server process, key logs, and what
/// was agreed on.
final class ExampleSessionTests: XCTestCase {
    private static let message = "open sesame, over UDP"

    private static func files(_ credentials: InteropCredentials) -> [String] {
        ["--certificate", credentials.certificateFile, "--private-key", credentials.privateKeyFile]
    }

    private static func trusting(_ credentials: InteropCredentials) -> [String] {
        ["--ca", credentials.certificateFile, "--server-name", "localhost"]
    }

    // MARK: Captures

    /// Checks that tshark, without any setting, finds `text` in a capture as decrypted application data, `count` times.
    private static func expect(_ text: String, times count: Int, in capture: String, _ peers: Peers) async throws {
        let tshark = try peers.start("tshark", ["-r", capture, "-Y", "dtls", "-V"])
        let status = try await tshark.waitForExit(seconds: 20)
        XCTAssertEqual(status, 0, tshark.description)
        let data = "Data: " + text.utf8.map { String(format: "%02x", $0) }.joined()
        let output = tshark.output.standardOutputText
        XCTAssertEqual(output.components(separatedBy: data).count - 1, count, "\(capture): \(output)")
    }

    func testCapturesOfTheClientAndTheEchoServer() async throws {
        try await withDeadline(seconds: 60) { peers in
            let ours = try peers.selfSigned("server")
            let captures = ["server.pcapng", "client.pcapng"].map { peers.directory.appendingPathComponent($0).path }
            let (server, address) = try await peers.startEchoServer(Self.files(ours) + ["--pcap", captures[0]])
            let options = Self.trusting(ours) + ["--message", Self.message, "--pcap", captures[1]]
            let (status, output) = try await peers.runClient(address, options)
            XCTAssertEqual(status, 0, output.text)
            server.send(signal: SIGTERM)
            try await server.waitForExit()
            // The message and its echo.
            for capture in captures { try await Self.expect(Self.message, times: 2, in: capture, peers) }
        }
    }

    func testACaptureOfHello() async throws {
        try await withDeadline(seconds: 60) { peers in
            try peers.makeDirectory()
            let capture = peers.directory.appendingPathComponent("hello.pcapng").path
            let hello = try peers.startExample("dtls-hello", ["--pcap", capture])
            let status = try await hello.waitForExit()
            XCTAssertEqual(status, 0, hello.description)
            // Of the two meetings tshark 4.0 decrypts the one with AES-GCM, not that with ChaCha20-Poly1305; later ones
            // both.
            let tshark = try peers.start("tshark", ["-r", capture, "-Y", "dtls", "-V"])
            try await tshark.waitForExit(seconds: 20)
            let data = "Data: " + "Hello over UDP!".utf8.map { String(format: "%02x", $0) }.joined()
            XCTAssertTrue(tshark.output.standardOutputText.contains(data), tshark.description)
        }
    }

    // MARK: Resumption

    /// Nothing but the ticket keys is shared by two processes of the server. A third one has other keys.
    func testTheClientResumesWithASecondServerProcess() async throws {
        try await withDeadline(seconds: 60) { peers in
            let ours = try peers.selfSigned("server")
            let credentials: [(server: [String], client: [String])] = [
                (Self.files(ours), Self.trusting(ours)),
                (
                    ["--psk", "\(InteropKey.identity):\(InteropKey.text)"],
                    ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]
                ),
            ]
            let keys = ["0a", "0b"].map { String(repeating: $0, count: DtlsTicketKeys.secretLength) }
            for (index, (server, client)) in credentials.enumerated() {
                let file = peers.directory.appendingPathComponent("session-\(index)").path
                let options = client + ["--resume", file, "--message", Self.message]
                for (key, remark) in [(keys[0], ""), (keys[0], "resumed\n"), (keys[1], "not resumed\n")] {
                    let (process, address) = try await peers.startEchoServer(server + ["--ticket-key", key])
                    let (status, output) = try await peers.runClient(address, options)
                    XCTAssertEqual(status, 0, output.text)
                    XCTAssertEqual(output.standardOutputText, Self.message + "\n")
                    XCTAssertEqual(output.standardErrorText, remark)
                    // The process has ended before the next one starts.
                    process.send(signal: SIGTERM)
                    try await process.waitForExit()
                    let saysResumed = process.output.text.contains(", resumed")
                    XCTAssertEqual(saysResumed, remark == "resumed\n", process.description)
                }
            }
        }
    }

    // MARK: What was agreed on

    func testProtocolsProfilesPinsAndKeyLogs() async throws {
        try await withDeadline { peers in
            let ours = try peers.selfSigned("server")
            let logs = ["server.keys", "client.keys"].map { peers.directory.appendingPathComponent($0).path }
            let shared = ["--preset", "webRTC", "--alpn", "webrtc", "--srtp", "SRTP_AEAD_AES_128_GCM"]
            let (server, address) = try await peers.startEchoServer(Self.files(ours) + shared + ["--keylog", logs[0]])
            let pin = ours.identity.certificateChain[0].sha256Fingerprint
            let options = shared + ["--keylog", logs[1], "--verbose", "--message", Self.message]
            let (status, output) = try await peers.runClient(address, ["--fingerprint", "\(pin)"] + options)
            XCTAssertEqual(status, 0, output.text)
            XCTAssertTrue(output.standardErrorText.contains("ALPN webrtc, SRTP_AEAD_AES_128_GCM\n"), output.text)
            try await server.wait(for: "ALPN webrtc, SRTP_AEAD_AES_128_GCM")
            let written = try logs.map { try String(contentsOfFile: $0, encoding: .utf8) }
            XCTAssertTrue(written[0].hasPrefix("CLIENT_RANDOM "), written[0])
            XCTAssertEqual(written[0], written[1])

            let other = try peers.selfSigned("other").identity.certificateChain[0].sha256Fingerprint
            let (refused, complaint) = try await peers.runClient(address, ["--fingerprint", "\(other)"] + options)
            XCTAssertEqual(refused, 1, complaint.text)
            XCTAssertTrue(complaint.standardErrorText.contains("matches none of the pins"), complaint.text)
        }
    }
}
