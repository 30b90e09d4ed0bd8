import DTLS
import Foundation
import XCTest

/// `dtls-webrtc-peer` with itself and with OpenSSL's programs.
final class WebRTCPeerTests: XCTestCase {
    // MARK: Peers

    /// A peer that has said how it is reached.
    private struct RunningPeer {
        let process: PeerProcess
        /// Its session description, a line each.
        let lines: String
        let address: DtlsAddress
        let fingerprint: String

        /// Waits for its end, and checks the status.
        func waitForExit(_ expected: Int32, file: StaticString = #filePath, line: UInt = #line) async throws {
            let status = try await process.waitForExit()
            XCTAssertEqual(status, expected, process.description, file: file, line: line)
        }

        var text: String { process.output.standardOutputText }
    }

    private static func start(_ peers: Peers, _ setup: String, _ options: [String] = []) async throws -> RunningPeer {
        let process = try peers.startExample("dtls-webrtc-peer", ["--setup", setup] + options)
        try await process.wait(for: "a=setup:\(setup)\n")
        let lines = process.output.standardOutputText.split(separator: "\n").prefix(3).map(String.init)
        let candidate = lines[0].split(separator: " ").map(String.init)
        XCTAssertEqual(Array(candidate[..<4]), ["a=candidate:1", "1", "UDP", "2130706431"])
        XCTAssertEqual(Array(candidate[6...]), ["typ", "host"])
        let prefix = "a=fingerprint:sha-256 "
        XCTAssertTrue(lines[1].hasPrefix(prefix), lines[1])
        return RunningPeer(
            process: process,
            lines: lines.joined(separator: "\n") + "\n",
            address: try DtlsAddress(ipAddress: candidate[4], port: XCTUnwrap(UInt16(candidate[5]))),
            fingerprint: String(lines[1].dropFirst(prefix.count))
        )
    }

    /// The part of a line behind a text.
    private static func value(of text: String, in output: String) throws -> String {
        let line = output.split(separator: "\n").first { $0.contains(text) }
        return String(try XCTUnwrap(line, output).components(separatedBy: text)[1])
    }

    func testTwoPeers() async throws {
        for options in [[], ["--bind", "[::1]:0", "--srtp", "SRTP_AES128_CM_SHA1_80"]] {
            try await withDeadline { peers in
                try peers.makeDirectory()
                let files = ["a", "b"].map { peers.directory.appendingPathComponent($0).path }
                let passive = try await Self.start(peers, "passive", options + ["--srtp-keys", files[0]])
                let active = try await Self.start(peers, "active", options + ["--srtp-keys", files[1]])
                try passive.process.write(active.lines)
                try active.process.write(passive.lines)
                try await passive.waitForExit(0)
                try await active.waitForExit(0)
                let profile = options.last ?? "SRTP_AEAD_AES_128_GCM"
                for (own, other, name) in [(passive, active, "active"), (active, passive, "passive")] {
                    XCTAssertTrue(own.text.contains("connected to \(other.address): DTLSv1.2, ECDHE-ECDSA-"), own.text)
                    XCTAssertTrue(own.text.contains("\n\(profile): a key of 16 and a salt of "), own.text)
                    XCTAssertTrue(own.text.contains("received \"hello from the \(name) side\"\n"), own.text)
                    XCTAssertTrue(own.text.contains("received \"nobody else reads this\"\n"), own.text)
                    XCTAssertTrue(own.text.contains("\nclosed by "), own.text)
                    XCTAssertEqual(own.process.output.standardErrorText, "")
                }
                let check = "same keys if it shows this, too: "
                let value = try Self.value(of: check, in: active.text)
                XCTAssertEqual(value.count, 16)
                XCTAssertEqual(try Self.value(of: check, in: passive.text), value)

                let keys = try files.map { try String(contentsOfFile: $0, encoding: .utf8) }
                XCTAssertEqual(keys[0], keys[1])
                XCTAssertEqual(keys[0].split(separator: "\n").count, 5)
                XCTAssertTrue(keys[0].hasPrefix("profile \(profile)\n"), keys[0])
                let attributes = try FileManager.default.attributesOfItem(atPath: files[0])
                XCTAssertEqual(attributes[.posixPermissions] as? Int, 0o600)
                for secret in try Self.secrets(files[0]) {
                    XCTAssertFalse((active.text + passive.text).contains(secret))
                }
            }
        }
    }

    /// The keys and salts in a file, in their order.
    private static func secrets(_ file: String) throws -> [String] {
        let lines = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").dropFirst()
        return lines.map { String($0.split(separator: " ")[1]) }
    }

    // MARK: OpenSSL

    private static func exporter(_ profile: DtlsSRTPProfile) -> [String] {
        let count = 2 * (profile.keyLength + profile.saltLength)
        return ["-use_srtp", profile.name, "-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "\(count)"]
    }

    func testOpenSSLsServer() async throws {
        for profile in [DtlsSRTPProfile.aes128CMSHA1_80, .aeadAES256GCM] {
            try await withDeadline { peers in
                let theirs = try peers.selfSigned("server")
                let files = ["-cert", theirs.certificateFile, "-key", theirs.privateKeyFile, "-Verify", "1"]
                let (server, address) = try await peers.openSSLServer(files + Self.exporter(profile))
                let pin = try XCTUnwrap(theirs.identity.certificateChain.first).sha256Fingerprint
                let keys = peers.directory.appendingPathComponent("keys").path
                let peer = try await Self.start(
                    peers,
                    "active",
                    ["--remote", "\(address)", "--fingerprint", "sha-256 \(pin)", "--srtp-keys", keys, "--expect", "1"]
                )
                try await server.wait(for: "SRTP Extension negotiated, profile=\(profile.name)")
                try await server.wait(for: "hello from the active side")
                // It has asked for the certificate and got it.
                try await server.wait(for: "CN = WebRTC")
                try server.write("hello from the server\n")
                try await peer.waitForExit(0)
                XCTAssertTrue(peer.text.contains("received \"hello from the server\\n\"\n"), peer.text)
                XCTAssertTrue(peer.text.contains("\n\(profile.name): a key of \(profile.keyLength) and"), peer.text)
                let block = try Self.secrets(keys).joined().uppercased()
                XCTAssertEqual(block.count, 4 * (profile.keyLength + profile.saltLength))
                try await server.wait(for: "Keying material: \(block)\n")
                // By the close_notify.
                try await server.wait(for: "DONE\n")
            }
        }
    }

    /// From an address that was announced it needs no cookie, from any other one it does.
    func testOpenSSLsClient() async throws {
        for (profile, isAnnounced) in [(DtlsSRTPProfile.aes128CMSHA1_80, false), (.aeadAES128GCM, true)] {
            try await withDeadline { peers in
                let theirs = try peers.selfSigned("client")
                let pin = try XCTUnwrap(theirs.identity.certificateChain.first).sha256Fingerprint
                let keys = peers.directory.appendingPathComponent("keys").path
                let port = try FreePort.find(for: "127.0.0.1")
                let remote = isAnnounced ? ["--remote", "127.0.0.1:\(port)"] : []
                let options = ["--fingerprint", "\(pin)", "--srtp-keys", keys, "--expect", "1", "--message", "ours"]
                let peer = try await Self.start(peers, "passive", options + remote)
                let files = ["-cert", theirs.certificateFile, "-key", theirs.privateKeyFile]
                let target = ["s_client", "-dtls1_2", "-state", "-connect", "\(peer.address)"]
                let source = isAnnounced ? ["-bind", "127.0.0.1:\(port)"] : []
                let client = try peers.start("openssl", target + source + files + Self.exporter(profile))
                try await client.wait(for: "SRTP Extension negotiated, profile=\(profile.name)")
                try await client.wait(for: "ours")
                XCTAssertEqual(
                    client.output.text.contains("read hello verify request"),
                    !isAnnounced,
                    client.description
                )
                let block = try Self.secrets(keys).joined().uppercased()
                XCTAssertEqual(block.count, 4 * (profile.keyLength + profile.saltLength))
                try await client.wait(for: "Keying material: \(block)\n")
                try client.write("theirs\n")
                try await peer.waitForExit(0)
                XCTAssertTrue(peer.text.contains("received \"theirs\\n\"\n"), peer.text)
                // By the close_notify.
                try await client.waitForExit()
            }
        }
    }

    func testOpenSSLsClientWithoutACertificate() async throws {
        try await withDeadline { peers in
            let theirs = try peers.selfSigned("client")
            let pin = try XCTUnwrap(theirs.identity.certificateChain.first).sha256Fingerprint
            let peer = try await Self.start(peers, "passive", ["--fingerprint", "\(pin)"])
            let options = ["-use_srtp", "SRTP_AES128_CM_SHA1_80"]
            let client = try peers.openSSLClient(to: peer.address, options)
            try await peer.waitForExit(1)
            XCTAssertTrue(peer.process.output.standardErrorText.contains("certificate"), peer.process.description)
            XCTAssertFalse(peer.text.contains("connected"), peer.text)
            try await client.wait(for: "alert")
        }
    }

    func testAPeerWithoutSRTP() async throws {
        try await withDeadline { peers in
            let theirs = try peers.selfSigned("server")
            let files = ["-cert", theirs.certificateFile, "-key", theirs.privateKeyFile]
            let (_, address) = try await peers.openSSLServer(files)
            let pin = try XCTUnwrap(theirs.identity.certificateChain.first).sha256Fingerprint
            let options = ["--remote", "\(address)", "--fingerprint", "\(pin)"]
            let peer = try await Self.start(peers, "active", options)
            try await peer.waitForExit(1)
            let error = "dtls-webrtc-peer: the peer agrees on no SRTP profile\n"
            XCTAssertEqual(peer.process.output.standardErrorText, error)
        }
    }

    // MARK: What goes wrong

    func testAnotherFingerprint() async throws {
        for liar in ["active", "passive"] {
            try await withDeadline { peers in
                let passive = try await Self.start(peers, "passive")
                let active = try await Self.start(peers, "active")
                let (deceived, other) = liar == "active" ? (passive, active) : (active, passive)
                // The description of one, with the fingerprint of the other.
                let forged = other.lines.replacingOccurrences(of: other.fingerprint, with: deceived.fingerprint)
                try deceived.process.write(forged)
                try other.process.write(deceived.lines)
                try await deceived.waitForExit(1)
                try await other.waitForExit(1)
                let refusal = "dtls-webrtc-peer: the peer's certificate has not the fingerprint that was announced"
                let errors = deceived.process.output.standardErrorText
                XCTAssertTrue(errors.hasPrefix(refusal), errors)
                XCTAssertEqual(errors.split(separator: "\n").count, 1, errors)
                let refused = "dtls-webrtc-peer: the peer refused this side's certificate"
                XCTAssertTrue(other.process.output.standardErrorText.hasPrefix(refused), other.process.description)
                for text in [passive.text, active.text] {
                    XCTAssertFalse(text.contains("connected"), text)
                    XCTAssertFalse(text.contains("received"), text)
                }
            }
        }
    }

    /// What is not DTLS, or not the peer's, changes nothing.
    func testOtherPackets() async throws {
        try await withDeadline { peers in
            let passive = try await Self.start(peers, "passive")
            let active = try await Self.start(peers, "active")
            let stun: [UInt8] = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42] + [UInt8](repeating: 7, count: 12)
            let alert: [UInt8] = [21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40]
            let packets = [stun, [0x80, 96] + stun, [0xC0], [], alert]
            for peer in [passive, active] { try Self.send(packets, to: peer.address) }
            try passive.process.write(active.lines)
            try active.process.write(passive.lines)
            for peer in [passive, active] {
                try await peer.waitForExit(0)
                let counts = try Self.value(of: "came in: ", in: peer.text)
                XCTAssertTrue(counts.hasPrefix("1 STUN, "), counts)
                XCTAssertTrue(counts.contains(" DTLS, 1 SRTP or SRTCP, 2 unknown; "), counts)
                XCTAssertTrue(counts.hasSuffix("; 1 DTLS of them from others than the peer"), counts)
            }
        }
    }

    /// Sends datagrams from a port of their own.
    private static func send(_ datagrams: [[UInt8]], to address: DtlsAddress) throws {
        #if canImport(Glibc)
            let kind = Int32(SOCK_DGRAM.rawValue)
        #else
            let kind = SOCK_DGRAM
        #endif
        let descriptor = socket(AF_INET, kind, 0)
        defer { close(descriptor) }
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = address.port.bigEndian
        XCTAssertEqual(inet_pton(AF_INET, address.host, &name.sin_addr), 1)
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        for datagram in datagrams {
            let sent = withUnsafePointer(to: &name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    sendto(descriptor, datagram, datagram.count, 0, $0, length)
                }
            }
            XCTAssertEqual(sent, datagram.count)
        }
    }

    /// While it waits for its peer's description, and while it waits for its peer.
    func testSignals() async throws {
        try await withDeadline { peers in
            for options in [[], ["--fingerprint", String(repeating: "ab", count: 32)]] {
                for (signal, status) in [(SIGINT, Int32(130)), (SIGTERM, 143)] {
                    let peer = try await Self.start(peers, "passive", options)
                    peer.process.send(signal: signal)
                    try await peer.waitForExit(status)
                    XCTAssertEqual(peer.process.output.standardErrorText, "")
                }
            }
        }
    }

    func testWrongUsage() async throws {
        try await withDeadline { peers in
            let name = "dtls-webrtc-peer"
            let digits = String(repeating: "ab", count: 32)
            for arguments in [
                [], ["--setup", "actpass"], ["--setup", "active", "--fingerprint", digits],
                ["--setup", "passive", "--fingerprint", "ab"], ["--setup", "passive", "--bind", "localhost:0"],
                ["--setup", "passive", "--remote", "::1:5"], ["--setup", "passive", "--srtp", "SRTP_NULL"],
                ["--setup", "passive", "--timeout", "0"], ["--setup", "passive", "--expect", "-1"],
                ["--setup", "passive", "--message", ""],
            ] {
                try await peers.expectFailure(name, arguments, status: 64)
            }
            let present = try peers.write("", to: "present")
            try await peers.expectFailure(name, ["--setup", "passive", "--srtp-keys", present], status: 1)
            let same = try await Self.start(peers, "passive")
            try same.process.write(same.lines)
            try await same.waitForExit(1)
            XCTAssertTrue(same.process.output.text.contains("both sides are passive"), same.process.description)
        }
    }

    func testNobodyComes() async throws {
        try await withDeadline { peers in
            let pin = String(repeating: "ab", count: 32)
            let peer = try await Self.start(peers, "passive", ["--fingerprint", pin, "--timeout", "0.2"])
            try await peer.waitForExit(1)
            XCTAssertTrue(peer.process.output.standardErrorText.contains("nobody was there"), peer.process.description)
        }
    }
}
