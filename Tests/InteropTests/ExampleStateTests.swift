import DTLS
import Foundation
import XCTest

/// dtls-echo-server, whose connections outlive it.
final class ExampleStateTests: XCTestCase {
    private static let psk = ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]

    private static func mode(of path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    private static func stateFile(_ peers: Peers) throws -> String {
        try peers.makeDirectory()
        return peers.directory.appendingPathComponent("connections").path
    }

    private static func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    /// Twice: what one server leaves, the next one takes and leaves again, under the same key.
    func testAClientOutlivesItsServer() async throws {
        try await withDeadline { peers in
            let file = try Self.stateFile(peers)
            let options = Self.psk + ["--state", file]
            var (server, address) = try await peers.startEchoServer(options)
            XCTAssertEqual(try Self.mode(of: file + ".key"), 0o600)
            let key = try Data(contentsOf: URL(fileURLWithPath: file + ".key"))
            XCTAssertEqual(key.count, DtlsHandOverKey.length)

            let client = try peers.startClient(address, Self.psk)
            try client.write("first\n")
            try await client.wait(for: "first\n")
            for text in ["second\n", "third\n"] {
                server.send(signal: SIGTERM)
                let status = try await server.waitForExit()
                XCTAssertEqual(status, 0, server.description)
                XCTAssertTrue(server.output.text.hasSuffix("handed over 1 connection\n"), server.description)
                XCTAssertTrue(server.output.text.contains(": because another process goes on"), server.description)
                XCTAssertEqual(try Self.mode(of: file), 0o600)

                server = try await peers.startEchoServer(port: address.port, options).peer
                XCTAssertFalse(Self.exists(file), "it could be imported again")
                try await server.wait(for: "took over 1 connection\n")
                try client.write(text)
                try await client.wait(for: text)
            }
            XCTAssertEqual(try Data(contentsOf: URL(fileURLWithPath: file + ".key")), key)
            let left = try FileManager.default.contentsOfDirectory(atPath: peers.directory.path)
            XCTAssertEqual(left, ["connections.key"])

            // SIGINT closes connections as ever.
            server.send(signal: SIGINT)
            try await server.waitForExit()
            XCTAssertFalse(server.output.text.contains("handed over"), server.description)
            XCTAssertFalse(Self.exists(file))
            try await client.waitForExit()
            XCTAssertEqual(client.output.standardOutputText, "first\nsecond\nthird\n")
        }
    }

    /// What OpenSSL has cannot be handed over, and is closed.
    func testWhatStaysBehindIsClosed() async throws {
        try await withDeadline { peers in
            let file = try Self.stateFile(peers)
            let options = Self.psk + ["--state", file, "--record-layer", "openssl"]
            let (server, address) = try await peers.startEchoServer(options)
            let client = try peers.startClient(address, Self.psk + ["--verbose"])
            try client.write("first\n")
            try await client.wait(for: "first\n")
            server.send(signal: SIGTERM)
            try await client.wait(for: "closed by the peer\n")
            try await server.waitForExit()
            XCTAssertTrue(server.output.text.hasSuffix("handed over 0 connections\n"), server.description)
            XCTAssertFalse(Self.exists(file))
        }
    }

    /// Files of which the server makes nothing, and leaves as they are.
    func testFilesThatAreRefused() async throws {
        try await withDeadline { peers in
            let arguments = ["--port", "0", "--host", "127.0.0.1"] + Self.psk
            let key = String(repeating: "k", count: DtlsHandOverKey.length)
            func refuse(_ name: String, key: String?, mode: Int = 0o600, state: String?, _ complaint: String)
                async throws
            {
                let file = peers.directory.appendingPathComponent(name).path
                if let key {
                    _ = try peers.write(key, to: "\(name).key")
                    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: "\(file).key")
                }
                if let state { _ = try peers.write(state, to: name) }
                let text = try await peers.expectFailure("dtls-echo-server", arguments + ["--state", file], status: 1)
                XCTAssertTrue(text.contains(complaint), text)
                XCTAssertEqual(try? String(contentsOfFile: file, encoding: .utf8), state)
                XCTAssertEqual(try? String(contentsOfFile: "\(file).key", encoding: .utf8), key)
            }
            for (index, mode) in [0o640, 0o604, 0o660].enumerated() {
                try await refuse("open-\(index)", key: key, mode: mode, state: nil, "open to others")
            }
            try await refuse("short", key: String(key.dropLast()), state: "something", "does not have 32 bytes")
            try await refuse("long", key: key + "k", state: "something", "does not have 32 bytes")
            try await refuse("keyless", key: nil, state: "something else", "without its key")

            // Nothing keeps this one from serving; what it could not take over is gone.
            let file = try peers.write("something", to: "other")
            _ = try peers.write(key, to: "other.key")
            let (server, address) = try await peers.startEchoServer(Self.psk + ["--state", file])
            try await server.wait(for: "no connection was taken over: ")
            let (status, output) = try await peers.runClient(address, Self.psk + ["--message", "hello"])
            XCTAssertEqual(status, 0, output.text)
            XCTAssertFalse(Self.exists(file))
        }
    }

    /// A server that finds its port in use leaves the connections to the next one.
    func testAServerThatCannotBeginLeavesTheFile() async throws {
        try await withDeadline { peers in
            let file = try Self.stateFile(peers)
            let options = Self.psk + ["--state", file]
            let (first, address) = try await peers.startEchoServer(options)
            let client = try peers.startClient(address, Self.psk)
            try client.write("first\n")
            try await client.wait(for: "first\n")
            first.send(signal: SIGTERM)
            try await first.waitForExit()
            let contents = try Data(contentsOf: URL(fileURLWithPath: file))

            let (other, _) = try await peers.startEchoServer(port: address.port, Self.psk)
            let arguments = ["--port", "\(address.port)", "--host", "127.0.0.1"] + options
            try await peers.expectFailure("dtls-echo-server", arguments, status: 1)
            XCTAssertEqual(try Data(contentsOf: URL(fileURLWithPath: file)), contents)
            XCTAssertEqual(try Self.mode(of: file), 0o600)
            other.send(signal: SIGTERM)
            try await other.waitForExit()

            let (server, _) = try await peers.startEchoServer(port: address.port, options)
            try await server.wait(for: "took over 1 connection\n")
            try client.write("second\n")
            try await client.wait(for: "second\n")
        }
    }

    // MARK: Many

    /// Lets each client have a socket: some systems begin with 256 descriptors.
    private static func raiseDescriptorLimit(to count: Int) throws {
        #if canImport(Glibc)
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        #else
            let resource = RLIMIT_NOFILE
        #endif
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < count else { return }
        limit.rlim_cur = rlim_t(count)
        guard setrlimit(resource, &limit) == 0 else { throw XCTSkip("no \(count) descriptors for a process here") }
    }

    /// Sends a text and takes the next reply, which must be the same.
    private static func echo(_ text: String, on connection: DtlsConnection) async throws {
        try await connection.send(text)
        var replies = connection.makeAsyncIterator()
        let reply = try await replies.next()
        XCTAssertEqual(reply.map { String(decoding: $0, as: UTF8.self) }, text)
    }

    /// Does something so many times, a few at once: more datagrams would not fit into a socket's buffer.
    private static func times<Result: Sendable>(
        _ count: Int,
        _ body: @escaping @Sendable (_ index: Int) async throws -> Result
    ) async throws -> [Result] {
        try await withThrowingTaskGroup(of: Result.self) { group in
            var results: [Result] = []
            for index in 0..<count {
                if index >= 32, let result = try await group.next() { results.append(result) }
                group.addTask { try await body(index) }
            }
            for try await result in group { results.append(result) }
            return results
        }
    }

    /// Clients with Connection IDs and without: each has its echo from the server that is stopped and from the one that
    /// is started in its place, which made no handshake and dropped nothing.
    func testARestartUnderAThousandClients() async throws {
        let count = 1_000
        try Self.raiseDescriptorLimit(to: count + 1_000)
        try await withDeadline(seconds: 300) { peers in
            let file = try Self.stateFile(peers)
            let options = Self.psk + ["--state", file, "--stats", "0.2"]
            let (first, address) = try await peers.startEchoServer(options)
            let clock = ContinuousClock()
            var start = clock.now

            var plain = DtlsConfiguration()
            plain.connectionIDs = .off
            let contexts = [
                try DtlsClientContext.preSharedKey(),
                try DtlsClientContext(plain, preSharedKey: try InteropKey.preSharedKey()),
            ]
            let connections = try await Self.times(count) { index in
                let connection = try await contexts[index % contexts.count].connect(to: address).connection
                try await Self.echo("before \(index)", on: connection)
                return connection
            }
            let connecting = clock.now - start

            start = clock.now
            first.send(signal: SIGTERM)
            let status = try await first.waitForExit(seconds: 60)
            XCTAssertEqual(status, 0)
            XCTAssertTrue(first.output.text.hasSuffix("handed over \(count) connections\n"))
            let stopping = clock.now - start
            start = clock.now
            let (second, _) = try await peers.startEchoServer(port: address.port, options)
            try await second.wait(for: "took over \(count) connections\n", seconds: 60)
            let starting = clock.now - start

            start = clock.now
            _ = try await Self.times(count) { try await Self.echo("after \($0)", on: connections[$0]) }
            let echoing = clock.now - start
            for connection in connections {
                XCTAssertEqual(connection.state, .open)
                XCTAssertEqual(connection.statistics.handshakesCompleted, 1)
            }

            try await second.wait(for: "\"payloadsReceived\":\(count),")
            let lines = second.output.standardOutputText.split(separator: "\n")
            let line = try XCTUnwrap(lines.last { $0.hasPrefix("{") && $0.contains("\"payloadsReceived\":\(count),") })
            let json = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            XCTAssertEqual(json["connectionsOpen"] as? Int, count)
            for name in ["handshakesStarted", "handshakesCompleted", "cookiesSent", "reconnections", "peerMoves"] {
                XCTAssertEqual(json[name] as? Int, 0, name)
            }
            let drops = try XCTUnwrap(json["drops"] as? [String: Int])
            XCTAssertEqual(drops.filter { $0.value != 0 }, [:])
            if ProcessInfo.processInfo.environment["DTLS_PROOF"] == "full" {
                print(
                    "proof: \(count) clients outlive a restart: connected and echoed in \(connecting), stopped in \(stopping), "
                        + "started in \(starting), echoed in \(echoing)"
                )
            }
        }
    }
}
