import DTLS
import Foundation
import XCTest

/// The example programs, as a user runs them, with the peers that a user has.
final class ExampleProgramTests: XCTestCase {
    private static let psk = ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]

    // MARK: dtls-hello

    func testHello() async throws {
        try await withDeadline { peers in
            let hello = try peers.startExample("dtls-hello", [])
            let status = try await hello.waitForExit()
            XCTAssertEqual(status, 0, hello.description)
            let output = hello.output.standardOutputText
            // Once with a pre-shared key, once with a certificate; two messages each time.
            let exchanges = output.components(separatedBy: "\n\n")
            XCTAssertEqual(exchanges.count, 2, output)
            XCTAssertTrue(exchanges[0].contains("identity  \"newcomer\"\n"), output)
            XCTAssertTrue(exchanges.last?.contains("SHA-256") ?? false, output)
            for exchange in exchanges {
                XCTAssertTrue(exchange.contains("receives \"You said: Hello over UDP!\"\n"), output)
                XCTAssertTrue(exchange.contains("receives \"You said: Nobody else can read this.\"\n"), output)
            }
            XCTAssertEqual(hello.output.standardErrorText, "")
        }
    }

    // MARK: dtls-echo-server

    func testEchoServerAnswersOpenSSL() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.startEchoServer(Self.psk)
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let client = try peers.openSSLClient(to: address, key)
            try client.write("an echo, please\n")
            try await client.wait(for: "an echo, please\n")
            try await server.wait(for: "PSK-AES128-GCM-SHA256, PSK identity \"\(InteropKey.identity)\"\n")
            try client.write("Q\n")
            try await server.wait(for: "by the peer, after 1 echo\n")
            let lines = server.output.standardOutputText.split(separator: "\n")
            XCTAssertEqual(lines.count, 3, "\(lines)")
            XCTAssertTrue(lines[1].hasPrefix("opened 127.0.0.1:"), "\(lines)")
            XCTAssertTrue(lines[2].hasPrefix("closed 127.0.0.1:"), "\(lines)")
            XCTAssertEqual(server.output.standardErrorText, "")
        }
    }

    func testEchoServerPrintsStatisticsAsJSON() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.startEchoServer(Self.psk + ["--quiet", "--stats", "0.1"])
            let exchange = ["--message", "one", "--replies", "1"]
            let (status, output) = try await peers.runClient(address, Self.psk + exchange)
            XCTAssertEqual(status, 0, output.standardErrorText)
            try await server.wait(for: "\"handshakesCompleted\":1,")
            let lines = server.output.standardOutputText.split(separator: "\n").dropFirst()
            let line = try XCTUnwrap(lines.last { $0.hasSuffix("}") && $0.contains("\"handshakesCompleted\":1,") })
            let json = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            XCTAssertEqual(json["cookiesSent"] as? Int, 1)
            XCTAssertEqual((json["drops"] as? [String: Int])?.count, DtlsDropReason.allCases.count)
            for line in lines.dropLast() {
                XCTAssertNotNil(try? JSONSerialization.jsonObject(with: Data(line.utf8)), String(line))
            }
        }
    }

    #if os(Linux)
        /// Peers of any loop are answered, at any of their addresses, over a restart too.
        func testEchoServerOfSeveralLoops() async throws {
            try await withDeadline { peers in
                try peers.makeDirectory()
                let file = peers.directory.appendingPathComponent("connections").path
                let options = Self.psk + ["--state", file, "--loops"]
                let (server, address) = try await peers.startEchoServer(options + ["3"])
                for _ in 0..<6 {
                    let exchange = ["--message", "one", "--message", "two", "--replies", "2", "--rebind-after", "1"]
                    let (status, output) = try await peers.runClient(address, Self.psk + exchange)
                    XCTAssertEqual(status, 0, output.standardErrorText)
                    XCTAssertEqual(output.standardOutputText, "one\ntwo\n")
                }
                let client = try peers.startClient(address, Self.psk)
                try client.write("first\n")
                try await client.wait(for: "first\n")
                server.send(signal: SIGTERM)
                try await server.waitForExit()
                let successor = try await peers.startEchoServer(port: address.port, options + ["2"]).peer
                try await successor.wait(for: "took over 1 connection\n")
                try client.write("second\n")
                try await client.wait(for: "second\n")
            }
            try await withDeadline { peers in
                let text = try await peers.expectFailure("dtls-echo-server", Self.psk + ["--loops", "65"], status: 64)
                XCTAssertTrue(text.contains("--loops takes 1 to 64"), text)
            }
        }
    #endif

    func testEchoServerAnswersGnuTLSOverIPv6() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.startEchoServer(at: "::1", Self.psk + ["--quiet"])
            let key = Peers.gnuTLSKey("+PSK", ciphers: "+CHACHA20-POLY1305")
            let client = try peers.gnuTLSClient(to: address, key)
            try client.write("an echo, please\n")
            try await client.wait(for: "an echo, please\n")
            client.closeInput()
            try await client.waitForExit()
            server.send(signal: SIGINT)
            let status = try await server.waitForExit()
            XCTAssertEqual(status, 0)
            XCTAssertEqual(server.output.standardOutputText, "listening on \(address)\n")
        }
    }

    func testEchoServerClosesEveryConnectionWhenItIsTerminated() async throws {
        try await withDeadline { peers in
            let (server, address) = try await peers.startEchoServer(Self.psk)
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let client = try peers.openSSLClient(to: address, key)
            try client.write("an echo, please\n")
            try await client.wait(for: "an echo, please\n")
            server.send(signal: SIGTERM)
            let status = try await server.waitForExit()
            XCTAssertEqual(status, 0)
            XCTAssertTrue(server.output.text.hasSuffix("by this side, after 1 echo\n"), server.output.text)
            // Without a close_notify, s_client would wait for ever.
            let clientStatus = try await client.waitForExit()
            XCTAssertEqual(clientStatus, 0, client.description)
        }
    }

    func testEchoServerWithCertificates() async throws {
        try await withDeadline { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let theirs = try await authority.issue("client")
            let files = ["--certificate", ours.certificateFile, "--private-key", ours.privateKeyFile]
            let (server, address) = try await peers.startEchoServer(
                files + ["--client-ca", authority.certificateFile, "--require-client-certificate"]
            )
            let stranger = try peers.openSSLClient(to: address, ["-CAfile", authority.certificateFile])
            try await stranger.wait(for: "SSL alert number 40")
            let client = try peers.openSSLClient(
                to: address,
                ["-CAfile", authority.certificateFile, "-verify_return_error"]
                    + ["-cert", theirs.certificateFile, "-key", theirs.privateKeyFile]
            )
            try client.write("an echo, please\n")
            try await client.wait(for: "an echo, please\n")
            try await server.wait(for: "certificate CN=client\n")
            XCTAssertEqual(server.output.text.components(separatedBy: "opened").count, 2, server.output.text)
        }
    }

    // MARK: dtls-client

    func testClientAndEchoServer() async throws {
        try await withDeadline { peers in
            let ours = try peers.selfSigned("server")
            let (server, address) = try await peers.startEchoServer(
                ["--certificate", ours.certificateFile, "--private-key", ours.privateKeyFile]
            )
            let messages = ["--message", "one", "--message", "two words"]
            let trust = ["--ca", ours.certificateFile, "--server-name", "localhost"]
            let (status, output) = try await peers.runClient(address, trust + messages)
            XCTAssertEqual(status, 0, output.text)
            XCTAssertEqual(output.standardOutputText, "one\ntwo words\n")
            XCTAssertEqual(output.standardErrorText, "")
            try await server.wait(for: "by the peer, after 2 echoes\n")
        }
    }

    /// `s_server` echoes nothing by itself: the test answers in its place.
    func testClientAndOpenSSL() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let (server, address) = try await peers.openSSLServer(["-nocert", "-listen"] + key)
            let options = Self.psk + ["--message", "a message of the client\n", "--verbose"]
            let client = try peers.startExample("dtls-client", [address.host, "\(address.port)"] + options)
            try await server.wait(for: "a message of the client\n")
            try server.write("a reply\n")
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0, client.description)
            XCTAssertTrue(client.output.standardOutputText.hasPrefix("a reply"), client.description)
            XCTAssertTrue(client.output.standardErrorText.contains("PSK-AES128-GCM-SHA256"), client.description)
            try await server.wait(for: "DONE\n")
        }
    }

    func testClientSendsTheLinesOfItsInput() async throws {
        try await withDeadline { peers in
            let (_, address) = try await peers.startEchoServer(at: "::1", Self.psk)
            let client = try peers.startExample("dtls-client", ["::1", "\(address.port)"] + Self.psk)
            try client.write("first\n\nsecond")
            try await client.wait(for: "first\n")
            client.closeInput()
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 0, client.description)
            XCTAssertEqual(client.output.standardOutputText, "first\nsecond\n")
        }
    }

    /// Who closes the connection is the client then, not the server.
    func testClientThatIsTerminatedBeforeItsReplies() async throws {
        try await withDeadline { peers in
            let key = Peers.openSSLKey(cipher: "PSK-AES128-GCM-SHA256")
            let (server, address) = try await peers.openSSLServer(["-nocert", "-listen"] + key)
            let client = try peers.startClient(address, Self.psk)
            try client.write("no reply to this\n")
            try await server.wait(for: "no reply to this")
            client.send(signal: SIGTERM)
            let status = try await client.waitForExit()
            XCTAssertEqual(status, 143, client.description)
            let remark = "dtls-client: 0 of 1 reply came before this program was told to end\n"
            XCTAssertEqual(client.output.standardErrorText, remark)
        }
    }

    func testClientAndCoAP() async throws {
        try await withDeadline { peers in
            let (_, address) = try await peers.coapServer(.openSSL, ["-k", InteropKey.text])
            let request = CoAPMessage.get([], messageID: 0x1234, token: [0xAB])
            let digits = request.bytes.map { String(format: "%02x", $0) }.joined()
            let options = ["--ciphers", "PSK-AES128-CCM8", "--message-hex", digits, "--hex"]
            let (status, output) = try await peers.runClient(address, Self.psk + options)
            XCTAssertEqual(status, 0, output.text)
            // A version 1 ACK with a token of 1 byte, 2.05 Content, the same message ID and token.
            XCTAssertTrue(output.standardOutputText.hasPrefix("61451234ab"), output.text)
        }
    }

    // MARK: What goes wrong

    func testWrongUsage() async throws {
        // Two dozen programs, one after the other.
        try await withDeadline(seconds: 120) { peers in
            let usages = [
                ("dtls-hello", ["--no-such-option"]),
                ("dtls-echo-server", ["--port", "0"]),
                ("dtls-echo-server", ["--port", "0", "--psk", "no colon"]),
                ("dtls-echo-server", Self.psk + ["--port", "0", "--ciphers", "NO-SUCH-SUITE"]),
                ("dtls-echo-server", Self.psk + ["--port", "0", "--cid", "33"]),
                ("dtls-echo-server", Self.psk + ["--port", "0", "--state", ""]),
                ("dtls-client", ["127.0.0.1"]),
                ("dtls-client", ["127.0.0.1", "9", "--psk", ":no identity", "--message", "hello"]),
                ("dtls-client", ["127.0.0.1", "9"] + Self.psk + ["--message-hex", "123"]),
                ("dtls-client", ["127.0.0.1", "9"] + Self.psk + ["--security-level", "6", "--message", "hello"]),
            ]
            let client = ["127.0.0.1", "9", "--message", "hello"] + Self.psk
            let options = [
                ["--cid", "8", "--no-cid"], ["--cid", "8", "--record-layer", "openssl"], ["--record-layer", "none"],
                ["--rebind-after", "0"], ["--rebind-after", "1"],
                ["--rebind-after", "1", "--message", "again", "--replies", "0"],
            ]
            for (program, arguments) in usages + options.map({ ("dtls-client", client + $0) }) {
                try await peers.expectFailure(program, arguments, status: 64)
            }
        }
    }

    func testFilesThatAreNotRight() async throws {
        try await withDeadline { peers in
            let one = try peers.selfSigned("one")
            let other = try peers.selfSigned("other")
            let missing = peers.directory.appendingPathComponent("missing.pem").path
            let server = ["--port", "0", "--host", "127.0.0.1"]
            for (certificate, key) in [
                (missing, one.privateKeyFile),
                (one.certificateFile, missing),
                (one.certificateFile, other.privateKeyFile),
                (one.privateKeyFile, one.privateKeyFile),
            ] {
                let files = ["--certificate", certificate, "--private-key", key]
                try await peers.expectFailure("dtls-echo-server", server + files, status: 1)
            }
            let client = ["127.0.0.1", "9", "--message", "hello"]
            try await peers.expectFailure("dtls-client", client + ["--ca", missing], status: 1)
            let session = peers.directory.appendingPathComponent("missing/session").path
            let text = try await peers.expectFailure(
                "dtls-client",
                client + Self.psk + ["--resume", session],
                status: 1
            )
            XCTAssertTrue(text.contains(session), "not noticed before the handshake: \(text)")
        }
    }

    /// The library's advice names its own settings; that of a program names its options.
    func testAdviceNamesOptions() async throws {
        try await withDeadline { peers in
            let ours = try peers.selfSigned("server")
            let other = try peers.selfSigned("other")
            let files = ["--certificate", ours.certificateFile, "--private-key", ours.privateKeyFile]
            let (_, address) = try await peers.startEchoServer(files)
            let target = [address.host, "\(address.port)", "--message", "hello"]
            for (arguments, option) in [
                (["--ca", other.certificateFile], "--ca"),
                (["--ca", ours.certificateFile, "--server-name", "elsewhere.example"], "--server-name"),
                (Self.psk, "leave --psk out"),
            ] {
                let text = try await peers.expectFailure("dtls-client", target + arguments, status: 1)
                XCTAssertTrue(text.contains(option), text)
            }
            let (_, keyed) = try await peers.startEchoServer(Self.psk)
            let arguments = [keyed.host, "\(keyed.port)", "--message", "hello"]
            let text = try await peers.expectFailure("dtls-client", arguments, status: 1)
            XCTAssertTrue(text.contains("a pre-shared key: --psk"), text)
        }
    }

    func testPortInUse() async throws {
        try await withDeadline { peers in
            let (_, address) = try await peers.startEchoServer(Self.psk)
            let arguments = ["--port", "\(address.port)", "--host", "127.0.0.1"] + Self.psk
            try await peers.expectFailure("dtls-echo-server", arguments, status: 1)
        }
    }

    func testCertificateThatTheClientDoesNotTrust() async throws {
        try await withDeadline { peers in
            let ours = try peers.selfSigned("server")
            let other = try peers.selfSigned("other")
            let (_, address) = try await peers.startEchoServer(
                ["--certificate", ours.certificateFile, "--private-key", ours.privateKeyFile]
            )
            let target = [address.host, "\(address.port)", "--message", "hello"]
            let arguments = target + ["--ca", other.certificateFile]
            try await peers.expectFailure("dtls-client", arguments, status: 1)
            let (status, output) = try await peers.runClient(address, ["--insecure", "--message", "hello"])
            XCTAssertEqual(status, 0, output.text)
            XCTAssertEqual(output.standardOutputText, "hello\n")
        }
    }
}
