import DTLS
import Foundation
import XCTest

/// The example programs and the addresses of clients: Connection IDs, and what goes without them.
final class ExampleConnectionIDTests: XCTestCase {
    private static let psk = ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]

    private static func messages(_ texts: [String]) -> [String] { texts.flatMap { ["--message", $0] } }

    /// A session of echoes goes on from another port, and both programs say so.
    func testTheClientGoesOnFromAnotherPort() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.startEchoServer(Self.psk)
            let texts = ["one", "two", "three", "four", "five"]
            let options = ["--rebind-after", "2", "--cid", "4", "--verbose"]
            let (status, output) = try await peers.runClient(address, Self.psk + options + Self.messages(texts))
            XCTAssertEqual(status, 0, output.text)
            XCTAssertEqual(output.standardOutputText, texts.map { $0 + "\n" }.joined())

            let said = output.standardErrorText
            let ports = try XCTUnwrap(said.firstMatch(of: /moved from port (\d+) to port (\d+)\n/), said).output
            XCTAssertNotEqual(ports.1, ports.2)
            XCTAssertNotNil(
                said.firstMatch(of: /the own Connection ID is [0-9a-f]{8}, the server's is [0-9a-f]{16}\n/),
                said
            )
            XCTAssertTrue(said.contains(", own CID of 4 bytes, peer's CID of 8 bytes\n"), said)
            XCTAssertFalse(said.contains("will not know"), said)

            try await server.wait(for: "by the peer, after 5 echoes\n")
            let lines = server.output.standardOutputText.split(separator: "\n").dropFirst()
            XCTAssertEqual(lines.count, 3, server.description)
            let former = "127.0.0.1:\(ports.1)"
            let latter = "127.0.0.1:\(ports.2)"
            XCTAssertTrue(lines.first?.hasPrefix("opened \(former): ") ?? false, server.description)
            XCTAssertEqual(lines.dropFirst().first.map(String.init), "moved \(former) -> \(latter)")
            XCTAssertTrue(lines.last?.hasPrefix("closed \(latter): ") ?? false, server.description)
        }
    }

    /// Without an ID the server drops what comes from elsewhere, and the client misses its replies.
    func testWithoutAConnectionIDTheServerDoesNotFollow() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.startEchoServer(Self.psk + ["--stats", "0.1"])
            let texts = ["one", "two", "three", "four"]
            let options = ["--rebind-after", "2", "--no-cid", "--timeout", "3"]
            let (status, output) = try await peers.runClient(address, Self.psk + options + Self.messages(texts))
            XCTAssertEqual(status, 1, output.text)
            XCTAssertEqual(output.standardOutputText, "one\ntwo\n")
            XCTAssertTrue(output.standardErrorText.contains("the server will not know this client"), output.text)
            XCTAssertTrue(output.standardErrorText.contains("2 of 4 replies came"), output.text)
            // Two messages and a close_notify.
            try await server.wait(for: "\"unknownPeer\":3,")
            XCTAssertFalse(server.output.text.contains("moved"), server.description)
        }
    }

    /// Where the replies do not come, the client does not go.
    func testTheClientWaitsForRepliesBeforeItGoes() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let (server, address) = try await peers.openSSLServer(["-nocert", "-listen"] + key)
            let options = ["--rebind-after", "1", "--verbose", "--timeout", "3"]
            let client = try peers.startClient(address, Self.psk + options + Self.messages(["first\n", "second\n"]))
            try await server.wait(for: "first\n")
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 1, client.description)
            XCTAssertTrue(client.output.text.contains("fewer than 1 reply came in time"), client.description)
            XCTAssertFalse(client.output.text.contains("moved"), client.description)
            XCTAssertFalse(server.output.text.contains("second"), server.description)
        }
    }

    /// The lengths that the options of both sides come to; nil where there are no IDs.
    func testTheOptionsOfBothSides() async throws {
        try await withDeadline { peers in
            let openSSL = ["--record-layer", "openssl"]
            let cases: [(server: [String], client: [String], lengths: (server: Int, client: Int)?)] = [
                (["--record-layer", "detached"], [], (8, 0)),
                (["--cid", "32"], ["--cid", "1", "--record-layer", "Detached"], (32, 1)),
                (["--cid", "0"], ["--cid", "3"], (0, 3)),
                ([], openSSL, nil),
                (openSSL, ["--cid", "3"], nil),
                (["--no-cid"], ["--cid", "3"], nil),
            ]
            for (ours, theirs, lengths) in cases {
                let (server, address) = try await peers.startEchoServer(Self.psk + ours)
                let options = theirs + ["--message", "hello", "--verbose"]
                let (status, output) = try await peers.runClient(address, Self.psk + options)
                XCTAssertEqual(status, 0, output.text)
                XCTAssertEqual(output.standardOutputText, "hello\n")
                try await server.wait(for: "by the peer, after 1 echo\n")
                let told = output.standardErrorText
                XCTAssertEqual(told.contains("there are no Connection IDs\n"), lengths == nil, told)
                let (own, peer) = lengths ?? (0, 0)
                Self.expect(own, peer, in: server.output.text)
                Self.expect(peer, own, in: told)
            }
        }
    }

    /// Checks that a program has told the lengths of its ID and of its peer's, and nothing where there is none.
    private static func expect(_ own: Int, _ peer: Int, in told: String) {
        for (name, length) in [("own CID", own), ("peer's CID", peer)] {
            XCTAssertEqual(told.contains(name), length > 0, told)
            let unit = length == 1 ? "byte" : "bytes"
            let parts = told.split { $0 == "\n" }.flatMap { $0.components(separatedBy: ", ") }
            XCTAssertEqual(parts.contains("\(name) of \(length) \(unit)"), length > 0, told)
        }
    }
}
