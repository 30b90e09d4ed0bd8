import DTLS
import Foundation
import XCTest

/// The example programs and the addresses of clients: Connection IDs, and what goes without them.
final class ExampleConnectionIDTests: XCTestCase {
    private static let psk = ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]

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
