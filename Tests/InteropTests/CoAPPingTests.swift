import DTLS
import DTLSTestKit
import Foundation
import XCTest

/// `dtls-coap-ping` and the server of libcoap.
final class CoAPPingTests: XCTestCase {
    private static let psk = ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]

    private static func ping(
        _ peers: Peers,
        _ address: DtlsAddress,
        path: String = "",
        _ options: [String]
    ) throws -> PeerProcess {
        try peers.startExample("dtls-coap-ping", ["coaps://\(address)\(path)"] + psk + options)
    }

    private static func server(_ peers: Peers, _ options: [String] = []) async throws -> (PeerProcess, DtlsAddress) {
        try await peers.coapServer(.openSSL, ["-k", InteropKey.text] + options)
    }

    /// Between pings, as libcoap answers no more than four in a second.
    private static let interval = ["--interval", "0.3"]

    func testPings() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            let ping = try Self.ping(peers, address, ["--count", "3"] + Self.interval)
            let status = try await ping.waitForExit()
            XCTAssertEqual(status, 0, ping.description)
            let lines = ping.output.standardOutputText.split(separator: "\n").map(String.init)
            XCTAssertEqual(lines.count, 7, ping.description)
            XCTAssertTrue(lines[0].hasPrefix("PING coaps://\(address): handshake of "), lines[0])
            for (index, line) in lines[1...3].enumerated() {
                XCTAssertTrue(line.hasPrefix("Reset from \(address): seq=\(index + 1) time="), line)
            }
            XCTAssertEqual(lines[4], "--- coaps://\(address) CoAP ping statistics ---")
            // libcoap may have wanted to hear some of them twice.
            XCTAssertTrue(lines[5].hasPrefix("3 requests, 3 replies, 0% loss, "), lines[5])
            XCTAssertTrue(lines[6].hasPrefix("rtt min/avg/max/mdev = "), lines[6])
            XCTAssertEqual(ping.output.standardErrorText, "")
        }
    }

    func testGets() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            let options = ["--count", "2", "--interval", "0.01"]
            let get = try Self.ping(peers, address, options + ["--get", "/.well-known/core", "--show"])
            var status = try await get.waitForExit()
            XCTAssertEqual(status, 0, get.description)
            let text = get.output.standardOutputText
            XCTAssertTrue(text.hasPrefix("GET coaps://"), text)
            XCTAssertEqual(text.components(separatedBy: "\n2.05 Content, ").count, 3, text)
            XCTAssertEqual(text.components(separatedBy: "\n</>;title=").count, 3, text)
            let missing = try Self.ping(peers, address, path: "/no/such%20thing?a=b", options)
            status = try await missing.waitForExit()
            XCTAssertEqual(status, 0, missing.description)
            XCTAssertTrue(missing.output.text.contains("\n4.04 Not Found, "), missing.description)
        }
    }

    /// A name goes with the request, and the server knows it for its own. Its answer is acknowledged first, and comes a
    /// second later.
    func testAResponseThatComesApart() async throws {
        try await withDeadline { peers in
            let (server, address) = try await Self.server(peers)
            let uri = "coaps://localhost:\(address.port)/async?1"
            let options = Self.psk + ["--count", "1", "--show"]
            let ping = try peers.startExample("dtls-coap-ping", [uri] + options)
            let status = try await ping.waitForExit()
            XCTAssertEqual(status, 0, ping.description)
            XCTAssertTrue(ping.output.text.contains("\n2.05 Content, 4 bytes from "), ping.description)
            XCTAssertTrue(ping.output.text.contains("\ndone\n"), ping.description)
            XCTAssertTrue(ping.output.text.contains("1 reply, 0% loss, 0 retransmissions, time"), ping.description)
            XCTAssertTrue(server.output.text.contains("Uri-Host:localhost"), server.description)
        }
    }

    func testTheSuiteOfConstrainedDevices() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            let options = ["--preset", "iotConstrained", "--ciphers", "PSK-AES128-CCM8", "-c", "1"]
            let ping = try Self.ping(peers, address, options)
            let status = try await ping.waitForExit()
            XCTAssertEqual(status, 0, ping.description)
            XCTAssertTrue(ping.output.text.contains("PSK-AES128-CCM8"), ping.description)
        }
    }

    func testCtrlC() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            let ping = try Self.ping(peers, address, Self.interval)
            try await ping.wait(for: "seq=2 ")
            ping.send(signal: SIGINT)
            let status = try await ping.waitForExit()
            XCTAssertEqual(status, 0, ping.description)
            XCTAssertTrue(ping.output.text.contains("CoAP ping statistics"), ping.description)
            XCTAssertTrue(ping.output.text.contains(" 0% loss"), ping.description)
        }
    }

    // MARK: Bad links

    func testALossyLink() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            let lossy = DtlsLinkConditions(loss: 0.25)
            let relay = try DtlsTestRelay(to: address, toServer: lossy, toClient: lossy, seed: 3)
            let options = ["--count", "30", "--interval", "0.001", "--ack-timeout", "0.05", "--get", "/"]
            let ping = try Self.ping(peers, relay.address, options)
            let status = try await ping.waitForExit(seconds: 25)
            XCTAssertEqual(status, 0, ping.description)
            let output = ping.output.standardOutputText
            let answers = output.components(separatedBy: "\n2.05 Content, ").count - 1
            let missing = output.components(separatedBy: "\nno reply: ").count - 1
            XCTAssertEqual(answers + missing, 30, output)
            // Without retransmissions, some 17.
            XCTAssertGreaterThan(answers, 24, output)
            XCTAssertTrue(output.contains(" sent 2 times\n"), output)
            XCTAssertTrue(output.contains("\n30 requests, \(answers) replies, "), output)
            let counts = await relay.counts()
            XCTAssertGreaterThan(counts.toServer.lost + counts.toClient.lost, 10)
            await relay.close()
        }
    }

    func testALinkThatGoesDown() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            let relay = try DtlsTestRelay(to: address, seed: 1)
            let ping = try Self.ping(
                peers,
                relay.address,
                ["--interval", "0.01", "--timeout", "1", "--ack-timeout", "0.1"]
            )
            try await ping.wait(for: "seq=1 ")
            let down = DtlsLinkConditions(loss: 1)
            try relay.setConditions(toServer: down, toClient: down)
            // After 0.1 to 0.15 seconds, twice that, and no time for four times as often.
            try await ping.wait(until: "it gave one up") { $0.standardOutputText.contains("\nno reply: seq=") }
            try await ping.wait(until: "it went on") { output in
                output.standardOutputText.components(separatedBy: "\nno reply: seq=").count > 2
            }
            ping.send(signal: SIGINT)
            let status = try await ping.waitForExit()
            XCTAssertEqual(status, 0, "there were replies before: \(ping.description)")
            await relay.close()
        }
    }

    /// As `ping` does: 1 when nothing came back.
    func testNoReply() async throws {
        try await withDeadline { peers in
            var reception = try await Reception(.preSharedKey())
            let options = ["--count", "1", "--timeout", "2", "--ack-timeout", "0.1"]
            let ping = try Self.ping(peers, reception.address, options)
            var conversation = try await reception.accept()
            let first = try await conversation.receive()
            let request = try XCTUnwrap(CoAPMessage(XCTUnwrap(first)))
            XCTAssertEqual(request, CoAPMessage(kind: .confirmable, code: 0, messageID: request.messageID))
            let second = try await conversation.receive()
            XCTAssertEqual(second, first)
            try await conversation.connection.send("neither an answer nor a message")
            let status = try await ping.waitForExit()
            XCTAssertEqual(status, 1, ping.description)
            let text = ping.output.standardOutputText
            XCTAssertTrue(text.contains("\nno reply: seq=1, sent "), text)
            XCTAssertTrue(text.contains("\n1 request, 0 replies, 100% loss, "), text)
            XCTAssertTrue(text.contains(", 1 ignored, time "), text)
            XCTAssertEqual(ping.output.standardErrorText, "")
        }
    }

    // MARK: What goes wrong

    func testAWrongKey() async throws {
        try await withDeadline { peers in
            let (_, address) = try await Self.server(peers)
            let arguments = ["coaps://\(address)", "--psk", "\(InteropKey.identity):wrong", "--timeout", "2"]
            let text = try await peers.expectFailure("dtls-coap-ping", arguments, status: 2)
            XCTAssertTrue(text.contains("identity or key may be wrong"), text)
        }
    }

    func testNoServer() async throws {
        try await withDeadline { peers in
            let port = try FreePort.find(for: "127.0.0.1")
            let arguments = ["coaps://127.0.0.1:\(port)"] + Self.psk
            let text = try await peers.expectFailure("dtls-coap-ping", arguments, status: 2)
            XCTAssertTrue(text.contains("127.0.0.1:\(port)"), text)
        }
    }

    func testAServerThatGoes() async throws {
        try await withDeadline { peers in
            let (server, address) = try await Self.server(peers)
            let ping = try Self.ping(peers, address, Self.interval)
            try await ping.wait(for: "seq=2 ")
            server.send(signal: SIGINT)
            let status = try await ping.waitForExit()
            XCTAssertEqual(status, 2, ping.description)
            XCTAssertEqual(ping.output.standardErrorText, "dtls-coap-ping: the connection was closed by the peer\n")
            XCTAssertTrue(ping.output.text.contains("CoAP ping statistics"), ping.description)
        }
    }

    func testWrongUsage() async throws {
        try await withDeadline { peers in
            for arguments in [
                [], ["coap://127.0.0.1"], ["coaps://"], ["coaps://127.0.0.1/a", "--get", "/b"],
                ["coaps://127.0.0.1", "--show"],
                ["coaps://127.0.0.1", "--get", "b"], ["coaps://127.0.0.1", "--count", "0"],
                ["coaps://127.0.0.1", "--interval", "0"], ["coaps://127.0.0.1", "--timeout", "-1"],
            ] {
                try await peers.expectFailure("dtls-coap-ping", arguments + Self.psk, status: 64)
            }
        }
    }
}
