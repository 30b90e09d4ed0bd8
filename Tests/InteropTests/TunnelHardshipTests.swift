import DTLS
import Foundation
import XCTest

/// `dtls-tunnel` among people who mean it no good, or do not read what it says.
final class TunnelHardshipTests: XCTestCase {
    private static let stats = ["--stats", "0.1"]

    // MARK: Who may come in

    /// A datagram that claims to come from the tunnel itself would go round for ever, as the service answers it.
    func testDatagramsFromTheTunnelItselfAreDropped() async throws {
        for host in ["127.0.0.1", "0.0.0.0", "[::]"] {
            try await withDeadline { peers in
                let service = try EchoingService("service")
                let (_, middle) = try await peers.startTunnel("server", to: service.address)
                let arguments = ["client", "--listen", "\(host):0", "--to", "\(middle)"] + Peers.tunnelKey + Self.stats
                let client = try peers.startExample("dtls-tunnel", arguments)
                try await client.wait(until: "it listens") { $0.standardOutput.contains(UInt8(ascii: "\n")) }
                let port = try Self.port(inFirstLine: client.output.standardOutputText)
                try TunnelForgery.send("round", fromAndTo: port)
                let figures = try await client.waitForFigures(until: "it was dropped") {
                    $0.dropped["ownAddress"] == 1 || $0.intoDtls > 0
                }
                XCTAssertEqual(figures.dropped["ownAddress"], 1, client.description)
                XCTAssertEqual(figures.peers, 0)
                // Others are served.
                let endpoint = try PlainEndpoint()
                endpoint.send("hello", to: port)
                let answer = try await endpoint.receiveText().text
                XCTAssertTrue(answer.hasSuffix(" hello"), answer)
            }
        }
    }

    /// A server with a certificate lets anybody in, unless it wants certificates of them; a pre-shared key does not
    /// change that.
    func testAServerSaysThatItLetsAnybodyIn() async throws {
        try await withDeadline { peers in
            let service = try PlainEndpoint()
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let own = ["--certificate", ours.certificateFile, "--private-key", ours.privateKeyFile]
            let asked = own + ["--client-ca", authority.certificateFile]
            for options in [own, own + Peers.tunnelKey, asked] {
                let (server, _) = try await peers.startTunnel("server", to: service.address, options)
                try await server.wait(for: "lets anybody in")
            }
            for options in [Peers.tunnelKey, asked + ["--require-client-certificate"]] {
                let (server, _) = try await peers.startTunnel("server", to: service.address, options)
                server.send(signal: SIGTERM)
                try await server.waitForExit()
                XCTAssertEqual(server.output.standardErrorText, "")
            }
        }
    }

    // MARK: Whom the client trusts

    /// The certificate has to carry the name that was given, not the address that it stands for.
    func testManyPeersOfAServerByName() async throws {
        try await withDeadline(seconds: 60) { peers in
            let service = try EchoingService("service")
            try peers.makeDirectory()
            let certificate = peers.directory.appendingPathComponent("own.pem").path
            let key = peers.directory.appendingPathComponent("own.key").path
            let request = try peers.start(
                "openssl",
                ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
                    + ["-keyout", key, "-out", certificate, "-subj", "/CN=any"]
                    + ["-addext", "subjectAltName=DNS:localhost"]
            )
            let status = try await request.waitForExit()
            XCTAssertEqual(status, 0, request.description)
            let own = ["--certificate", certificate, "--private-key", key]
            let (_, middle) = try await peers.startTunnel("server", to: service.address, own)

            let arguments = ["client", "--listen", "127.0.0.1:0", "--ca", certificate, "--to"]
            let client = try peers.startExample("dtls-tunnel", arguments + ["localhost:\(middle.port)"])
            try await client.wait(until: "it listens") { $0.standardOutput.contains(UInt8(ascii: "\n")) }
            try await Self.converse(fromPorts: 32, with: try Self.port(inFirstLine: client.output.standardOutputText))
            XCTAssertFalse(client.output.text.contains("failed"), client.description)

            let other = try peers.startExample("dtls-tunnel", arguments + ["\(middle)"])
            try await other.wait(until: "it listens") { $0.standardOutput.contains(UInt8(ascii: "\n")) }
            let endpoint = try PlainEndpoint()
            endpoint.send("nobody may read this", to: try Self.port(inFirstLine: other.output.standardOutputText))
            try await other.wait(for: "failed \(endpoint.address): ")
        }
    }

    // MARK: Who reads no output

    /// More lines than are kept: the tunnel goes on, and says how many it has left out when they are read again.
    func testNobodyWaitsForTheReaderOfTheOutput() async throws {
        try await withDeadline(seconds: 120) { peers in
            let service = try EchoingService("service")
            let options = ["--max-peers", "2000"]
            let (_, middle) = try await peers.startTunnel("server", to: service.address, options + Peers.tunnelKey)
            let (client, output, port) = try await Self.startUnread(peers, to: middle, options)
            let count = 1_600
            try await Self.converse(fromPorts: count, with: port)
            try await output.read(until: " lines left out\n")
            let text = output.text
            let opened = text.components(separatedBy: "opened 127.0.0.1:").count - 1
            let note = try XCTUnwrap(text.split(separator: "\n").last { $0.hasPrefix("… ") })
            let leftOut = try XCTUnwrap(note.split(separator: " ").dropFirst().first.flatMap { Int($0) })
            XCTAssertGreaterThan(leftOut, 0)
            XCTAssertEqual(opened + leftOut, count)
            // What comes now is said.
            let endpoint = try PlainEndpoint()
            endpoint.send("hello", to: port)
            try await output.read(until: "opened \(endpoint.address) ")
            client.send(signal: SIGKILL)
        }
    }

    /// Nor does the end of the program wait for ever.
    func testASignalEndsATunnelWhoseOutputIsNotRead() async throws {
        try await withDeadline(seconds: 60) { peers in
            let service = try EchoingService("service")
            let (_, middle) = try await peers.startTunnel("server", to: service.address)
            let (client, output, port) = try await Self.startUnread(peers, to: middle)
            // More than the pipe of any system holds.
            try await Self.converse(fromPorts: 600, with: port)
            client.send(signal: SIGTERM)
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0, client.description)
            withExtendedLifetime(output) {}
        }
    }

    /// Starts a client's end, of whose output only the first line is read.
    private static func startUnread(
        _ peers: Peers,
        to target: DtlsAddress,
        _ options: [String] = []
    ) async throws -> (client: PeerProcess, output: TunnelOutputPipe, port: UInt16) {
        try peers.makeDirectory()
        let output = try TunnelOutputPipe(in: peers.directory)
        let program = try peers.pathOfExample("dtls-tunnel")
        let arguments = ["client", "--listen", "127.0.0.1:0", "--to", "\(target)"] + Peers.tunnelKey + options
        let client = try peers.start("/bin/sh", ["-c", "exec \"$@\" >'\(output.path)'", "sh", program] + arguments)
        return (client, output, try port(inFirstLine: await output.firstLine()))
    }

    /// Asks the service something from so many ports, some at a time, and waits for each answer.
    private static func converse(fromPorts count: Int, with port: UInt16) async throws {
        var ports: Set<UInt16> = []
        while ports.count < count {
            // A port that was used before is no new peer.
            try await withThrowingTaskGroup(of: UInt16.self) { group in
                for _ in 0..<min(32, count - ports.count) {
                    group.addTask {
                        let endpoint = try PlainEndpoint()
                        endpoint.send("hello", to: port)
                        _ = try await endpoint.receive(seconds: 20)
                        return endpoint.address.port
                    }
                }
                for try await port in group { ports.insert(port) }
            }
        }
    }

    private static func port(inFirstLine text: String) throws -> UInt16 {
        let line = text.prefix { $0 != "\n" }
        return try XCTUnwrap(line.split(separator: ":").last.flatMap { UInt16($0) }, "the first line is \"\(line)\"")
    }
}
