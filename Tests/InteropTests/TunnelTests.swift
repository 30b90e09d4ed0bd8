import DTLS
import DTLSTestKit
import Foundation
import XCTest

/// `dtls-tunnel` between plain sockets of the test.
final class TunnelTests: XCTestCase {
    private static let stats = ["--stats", "0.1"]

    // MARK: Carrying

    /// Each client has a connection of its own, and a port of its own at the service.
    func testManyClientsAtOnceHaveEachItsOwnAnswers() async throws {
        try await withDeadline(seconds: 60) { peers in
            let service = try EchoingService("service")
            let options = Peers.tunnelKey + Self.stats
            let (server, client, address) = try await peers.startTunnels(
                to: service.address,
                server: options,
                client: options + ["--timeout", "30"]
            )
            let count = 40
            let ports = try await withThrowingTaskGroup(of: String.self) { group in
                for index in 0..<count {
                    group.addTask {
                        let endpoint = try PlainEndpoint()
                        var ports: Set<Substring> = []
                        for round in 0..<5 {
                            endpoint.send("\(index) \(round)", to: address.port)
                            let (text, _) = try await endpoint.receiveText(seconds: 30)
                            let parts = text.split(separator: " ", maxSplits: 2)
                            XCTAssertEqual(parts.last, "\(index) \(round)")
                            ports.insert(parts[1])
                        }
                        XCTAssertEqual(ports.count, 1)
                        return String(ports.first ?? "")
                    }
                }
                var all: Set<String> = []
                for try await port in group { all.insert(port) }
                return all
            }
            XCTAssertEqual(ports.count, count)
            for (process, name) in [(server, "server"), (client, "client")] {
                let figures = try await process.waitForFigures(until: "all was counted") {
                    $0.peers == count && $0.intoDtls == 5 * count && $0.outOfDtls == 5 * count
                }
                XCTAssertEqual(figures.dropped.filter { $0.value != 0 }, [:], name)
                XCTAssertEqual(figures.whole["handshakesCompleted"] as? Int, count, name)
                XCTAssertEqual(figures.whole["connectionsOpen"] as? Int, count, name)
            }
        }
    }

    /// Boundaries are kept, up to what a record has room for; what is larger is dropped, counted and remarked on.
    func testOversizedAndEmptyDatagramsAreCounted() async throws {
        try await withDeadline { peers in
            let service = try PlainEndpoint()
            let options = Peers.tunnelKey + Self.stats
            let (server, client, address) = try await peers.startTunnels(
                to: service.address,
                server: options + ["--mtu", "600"],
                client: options + ["--mtu", "1000"]
            )
            let endpoint = try PlainEndpoint()
            let sizes = [1, 900, 2, 1]
            for (index, size) in sizes.enumerated() {
                endpoint.send([UInt8](repeating: UInt8(index), count: size), to: address.port)
                if size == 900 {
                    endpoint.send([UInt8](repeating: 0xFF, count: 1001), to: address.port)
                    endpoint.send([UInt8](), to: address.port)
                }
            }
            var port: UInt16 = 0
            for (index, size) in sizes.enumerated() {
                let (bytes, source) = try await service.receive()
                XCTAssertEqual(bytes, [UInt8](repeating: UInt8(index), count: size))
                port = source
            }
            // The other way the path is narrower.
            service.send([UInt8](repeating: 1, count: 700), to: port)
            service.send([UInt8](repeating: 2, count: 500), to: port)
            let (bytes, source) = try await endpoint.receive()
            XCTAssertEqual(bytes, [UInt8](repeating: 2, count: 500))
            XCTAssertEqual(source, address.port)

            let sent = try await client.waitForFigures(until: "it counted what it dropped") {
                $0.dropped["tooLargeForDtls"] == 1 && $0.dropped["empty"] == 1
            }
            XCTAssertEqual(sent.intoDtls, sizes.count)
            try await server.waitForFigures(until: "it counted what it dropped") {
                $0.dropped["tooLargeForDtls"] == 1 && $0.intoDtls == 1
            }
            try await client.wait(for: "dropped a datagram of 1001 bytes")
            try await server.wait(for: "dropped a datagram of 700 bytes")
            for process in [client, server] {
                XCTAssertTrue(process.output.standardErrorText.contains("--mtu"), process.description)
            }
        }
    }

    /// What comes during a handshake is kept, in order, as far as `--queue` allows.
    func testDatagramsWaitForTheHandshakeWithinBounds() async throws {
        try await withDeadline { peers in
            let service = try PlainEndpoint()
            let (_, middle) = try await peers.startTunnel("server", to: service.address)
            // A handshake over this way takes more than a second.
            let slow = DtlsLinkConditions(delay: .milliseconds(300) ... .milliseconds(300))
            let relay = try DtlsTestRelay(to: middle, toServer: slow, toClient: slow, seed: 1)
            let options = Peers.tunnelKey + Self.stats
            let (client, address) = try await peers.startTunnel(
                "client",
                to: relay.address,
                options + ["--queue", "3"]
            )
            let endpoint = try PlainEndpoint()
            for index in 0..<5 { endpoint.send("\(index)", to: address.port) }
            for index in 0..<3 {
                let text = try await service.receiveText().text
                XCTAssertEqual(text, "\(index)")
            }
            try await client.waitForFigures(until: "all were counted") {
                $0.intoDtls == 3 && $0.dropped["handshakeQueueFull"] == 2
            }
            XCTAssertNil(service.takeNext())
            withExtendedLifetime(relay) {}
        }
    }

    // MARK: Services that are away

    /// At the start, and later: what is refused is counted, and clients need not connect anew.
    func testAServiceThatIsAwayAndBack() async throws {
        try await withDeadline(seconds: 60) { peers in
            let service = try EchoingService("first")
            let target = service.address
            await service.end()
            let options = Peers.tunnelKey + Self.stats
            let (server, client, address) = try await peers.startTunnels(to: target, server: options)
            let endpoint = try PlainEndpoint()
            endpoint.send("nobody is there", to: address.port)
            try await server.waitForFigures(until: "it was refused") { $0.dropped["refused"] ?? 0 >= 1 }
            try await server.wait(for: "nobody listens at \(target)")

            let second = try EchoingService("second", port: target.port)
            let port = try await Self.port(asking: endpoint, address, of: "second")
            try await server.wait(for: "\(target) answers")
            await second.end()

            endpoint.send("gone again", to: address.port)
            try await server.waitForFigures(until: "it was refused again") { $0.dropped["refused"] ?? 0 >= 2 }
            let third = try EchoingService("third", port: target.port)
            // The service sees the same client.
            let answer = EchoingService.answer("third", port, "hello")
            try await endpoint.ask("hello", at: address.port, until: answer)
            await third.end()
            XCTAssertEqual(client.output.text.components(separatedBy: "opened").count, 2, client.description)
        }
    }

    /// Returns the port by which the service knows a client.
    private static func port(
        asking endpoint: PlainEndpoint,
        _ address: DtlsAddress,
        of service: String
    ) async throws -> UInt16 {
        endpoint.send("who am I", to: address.port)
        let text = try await endpoint.receiveText().text
        let parts = text.split(separator: " ")
        XCTAssertEqual(parts.first, "\(service)")
        return try XCTUnwrap(parts.dropFirst().first.flatMap { UInt16($0) })
    }

    /// `localhost` may be two addresses, at one of which nobody listens.
    func testAServiceByName() async throws {
        try await withDeadline { peers in
            let service = try EchoingService("service")
            let arguments = ["server", "--listen", "127.0.0.1:0", "--to", "localhost:\(service.address.port)"]
            let server = try peers.startExample("dtls-tunnel", arguments + Peers.tunnelKey)
            try await server.wait(for: "listening on 127.0.0.1:")
            let line = try XCTUnwrap(server.output.standardOutputText.split(separator: "\n").first)
            let port = try XCTUnwrap(line.split(separator: ":").last.flatMap { UInt16($0) })
            let middle = try DtlsAddress(ipAddress: "127.0.0.1", port: port)
            let (_, address) = try await peers.startTunnel("client", to: middle)
            let endpoint = try PlainEndpoint()
            let deadline = ContinuousClock.now + .seconds(10)
            var answer: String?
            while answer == nil, ContinuousClock.now < deadline {
                endpoint.send("hello", to: address.port)
                answer = try? await endpoint.receiveText(seconds: 0.2).text
            }
            XCTAssertEqual(answer?.hasSuffix("hello"), true, peers.description)
        }
    }

    // MARK: Servers that are away

    func testAServerThatIsRestarted() async throws {
        // One that says goodbye, and one that does not.
        for signal in [SIGTERM, SIGKILL] {
            try await withDeadline(seconds: 60) { peers in
                let service = try EchoingService("service")
                let (first, middle) = try await peers.startTunnel("server", to: service.address)
                let options = Peers.tunnelKey + Self.stats + ["--silence", "1"]
                let (client, address) = try await peers.startTunnel("client", to: middle, options)
                let endpoint = try PlainEndpoint()
                let port = try await Self.port(asking: endpoint, address, of: "service")
                first.send(signal: signal)
                try await first.waitForExit()
                if signal == SIGTERM { try await client.wait(for: "by the peer, after 1 to the server and 1 back\n") }
                // Nobody is there: that ends nothing.
                endpoint.send("lost", to: address.port)
                let (second, _) = try await peers.startTunnel("server", to: service.address, port: middle.port)
                let deadline = ContinuousClock.now + .seconds(20)
                var answer: String?
                while answer == nil, ContinuousClock.now < deadline {
                    endpoint.send("hello", to: address.port)
                    answer = try? await endpoint.receiveText(seconds: 0.2).text
                }
                XCTAssertEqual(answer?.hasSuffix("hello"), true, peers.description)
                XCTAssertNotEqual(answer, EchoingService.answer("service", port, "hello"))
                try await second.wait(for: "opened 127.0.0.1:")
            }
        }
    }

    func testAServerThatIsNotThere() async throws {
        try await withDeadline { peers in
            let nobody = try DtlsAddress(ipAddress: "127.0.0.1", port: FreePort.find(for: "127.0.0.1"))
            let (client, address) = try await peers.startTunnel("client", to: nobody, Peers.tunnelKey + Self.stats)
            let endpoint = try PlainEndpoint()
            endpoint.send("hello", to: address.port)
            try await client.wait(for: "failed \(endpoint.address): ")
            try await client.wait(for: "nobody listens at this port")
            try await client.waitForFigures(until: "it was counted") { $0.dropped["noServer"] == 1 }
            client.send(signal: SIGINT)
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0)
        }
    }

    func testAWrongKey() async throws {
        try await withDeadline { peers in
            let service = try PlainEndpoint()
            let (server, middle) = try await peers.startTunnel("server", to: service.address)
            let wrong = ["--psk", "\(InteropKey.identity):notThisOne"]
            let (client, address) = try await peers.startTunnel("client", to: middle, wrong)
            let endpoint = try PlainEndpoint()
            endpoint.send("hello", to: address.port)
            try await client.wait(for: "failed \(endpoint.address): ")
            try await server.wait(for: "refused 127.0.0.1:")
            XCTAssertNil(service.takeNext())
        }
    }

    // MARK: Peers that go

    func testIdlePeersAreLetGo() async throws {
        try await withDeadline { peers in
            let service = try EchoingService("service")
            let options = Peers.tunnelKey + Self.stats
            let (server, client, address) = try await peers.startTunnels(
                to: service.address,
                server: options,
                client: options + ["--idle", "0.5"]
            )
            let endpoint = try PlainEndpoint()
            let port = try await Self.port(asking: endpoint, address, of: "service")
            try await client.wait(for: "closed \(endpoint.address): because nothing came or went for too long, after 1")
            try await client.waitForFigures(until: "the peer was gone") { $0.peers == 0 }
            // The server is told.
            try await server.wait(for: "by the peer, after 1 to the service and 1 back\n")
            try await server.waitForFigures(until: "the client was gone") { $0.peers == 0 }
            // The peer may come again, in a handshake that is shorter.
            let next = try await Self.port(asking: endpoint, address, of: "service")
            XCTAssertNotEqual(next, port)
            try await client.wait(for: ", resumed, PSK identity")
        }
    }

    func testIdleConnectionsOfTheServerAreClosed() async throws {
        try await withDeadline { peers in
            let service = try EchoingService("service")
            let options = Peers.tunnelKey + Self.stats
            let (server, client, address) = try await peers.startTunnels(
                to: service.address,
                server: options + ["--idle", "0.5"],
                client: options
            )
            let endpoint = try PlainEndpoint()
            _ = try await Self.port(asking: endpoint, address, of: "service")
            try await server.wait(for: "because nothing came or went for too long, after 1 to the service and 1 back\n")
            try await client.wait(for: "closed \(endpoint.address): by the peer, after 1")
            // The peer is still there, and connects anew when it says something.
            try await client.waitForFigures(until: "the peer was kept") { $0.peers == 1 }
            _ = try await Self.port(asking: endpoint, address, of: "service")
        }
    }

    /// All places are taken by peers that are not silent for long.
    func testPeersBeyondTheLimitAreCounted() async throws {
        try await withDeadline { peers in
            let service = try EchoingService("service")
            let options = Peers.tunnelKey + Self.stats
            let (_, client, address) = try await peers.startTunnels(
                to: service.address,
                client: options + ["--max-peers", "2"]
            )
            var endpoints: [PlainEndpoint] = []
            for _ in 0..<2 {
                let endpoint = try PlainEndpoint()
                _ = try await Self.port(asking: endpoint, address, of: "service")
                endpoints.append(endpoint)
            }
            let third = try PlainEndpoint()
            third.send("too many", to: address.port)
            try await client.waitForFigures(until: "one was too many") {
                $0.dropped["tooManyPeers"] == 1 && $0.peers == 2
            }
            try await client.wait(for: "\(third.address) is not served")
            for endpoint in endpoints { _ = try await Self.port(asking: endpoint, address, of: "service") }
        }
    }

    // MARK: The end

    /// A signal closes every connection with close_notify, and the status is 0.
    func testSignalsEndBothEndsProperly() async throws {
        try await withDeadline { peers in
            let service = try EchoingService("service")
            for (end, signal) in [("server", SIGTERM), ("client", SIGTERM), ("server", SIGINT), ("client", SIGINT)] {
                let (server, client, address) = try await peers.startTunnels(to: service.address)
                let endpoint = try PlainEndpoint()
                _ = try await Self.port(asking: endpoint, address, of: "service")
                let (ended, other) = end == "server" ? (server, client) : (client, server)
                ended.send(signal: signal)
                let status = try await ended.waitForExit()
                XCTAssertEqual(status, 0, ended.description)
                XCTAssertTrue(ended.output.standardOutputText.contains(": by this side, after 1"), ended.description)
                try await other.wait(for: ": by the peer, after 1")
                XCTAssertEqual(ended.output.standardErrorText, "")
            }
        }
    }

    /// During a drain those who are there go on, nobody else comes in, and a second signal ends it.
    func testDrain() async throws {
        for end in ["server", "client"] {
            try await withDeadline { peers in
                let service = try EchoingService("service")
                let options = Peers.tunnelKey + ["--drain", "600"]
                let (server, client, address) = try await peers.startTunnels(
                    to: service.address,
                    server: options,
                    client: options + ["--timeout", "1"]
                )
                let endpoint = try PlainEndpoint()
                let port = try await Self.port(asking: endpoint, address, of: "service")
                let ended = end == "server" ? server : client
                ended.send(signal: SIGTERM)
                // A newcomer is not served from the moment on at which the signal has come.
                let deadline = ContinuousClock.now + .seconds(15)
                while true {
                    let newcomer = try PlainEndpoint()
                    newcomer.send("too late", to: address.port)
                    if (try? await newcomer.receive(seconds: 2)) == nil { break }
                    guard ContinuousClock.now < deadline else {
                        throw PeerFailure(description: "newcomers are served\n\(ended.description)")
                    }
                }
                let again = try await Self.port(asking: endpoint, address, of: "service")
                XCTAssertEqual(again, port)
                ended.send(signal: SIGTERM)
                let status = try await ended.waitForExit()
                XCTAssertEqual(status, 0, ended.description)
            }
        }
    }

    // MARK: What goes wrong

    func testWrongUsage() async throws {
        try await withDeadline(seconds: 120) { peers in
            let server = ["server", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"]
            let client = ["client", "--listen", "0", "--to", "127.0.0.1:9"]
            let usages = [
                server, ["server"] + Peers.tunnelKey, client.dropLast(2) + Peers.tunnelKey, ["neither"],
                ["server", "--to", "9"] + Peers.tunnelKey, ["server", "--to", "::1:9"] + Peers.tunnelKey,
                ["server", "--to", "host:70000"] + Peers.tunnelKey, ["server", "--to", ":9"] + Peers.tunnelKey,
                server + Peers.tunnelKey + ["--max-peers", "0"], server + Peers.tunnelKey + ["--idle", "-1"],
                server + Peers.tunnelKey + ["--stats", "0"], server + Peers.tunnelKey + ["--drain", "100000"],
                client + Peers.tunnelKey + ["--queue", "0"], client + Peers.tunnelKey + ["--silence", "0.5"],
                client + ["--psk", "no colon"], client + Peers.tunnelKey + ["--ciphers", "NO-SUCH-SUITE"],
            ]
            for arguments in usages {
                try await peers.expectFailure("dtls-tunnel", Array(arguments), status: 64)
            }
            let text = try await peers.expectFailure("dtls-tunnel", server, status: 64)
            XCTAssertTrue(text.contains("(see dtls-tunnel server --help)"), text)
        }
    }

    func testPortsInUse() async throws {
        try await withDeadline { peers in
            let service = try PlainEndpoint()
            for end in ["server", "client"] {
                let (_, address) = try await peers.startTunnel(end, to: service.address)
                let arguments = [end, "--listen", "\(address)", "--to", "\(service.address)"] + Peers.tunnelKey
                let text = try await peers.expectFailure("dtls-tunnel", arguments, status: 1)
                XCTAssertTrue(text.contains("in use"), text)
            }
        }
    }
}
