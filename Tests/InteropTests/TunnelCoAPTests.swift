import DTLS
import Foundation
import XCTest

/// `dtls-tunnel` between libcoap's programs, of which one side knows nothing of DTLS.
final class TunnelCoAPTests: XCTestCase {
    private static let request = "a message that somebody else keeps"

    /// Runs a client that stores a text at the server, and one that gets it.
    private static func store(
        _ text: String,
        at url: String,
        _ peers: Peers,
        by program: String,
        _ options: [String] = []
    ) async throws {
        let put = try peers.start(program, options + ["-B", "10", "-m", "put", "-e", text, url])
        try await put.waitForExit(seconds: 20)
        let get = try peers.start(program, options + ["-B", "10", url])
        try await get.waitForExit(seconds: 20)
        XCTAssertEqual(get.output.standardOutputText, "\(text)\n", get.description)
    }

    /// `coap-client-openssl` -> tunnel -> `coap-server-notls`, several at once, each with an answer of its own.
    func testDtlsClientsOfAPlainServer() async throws {
        try await withDeadline(seconds: 60) { peers in
            let (_, plain) = try await peers.plainCoAPServer()
            let (server, address) = try await peers.startTunnel("server", to: plain)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, build) in ["openssl", "gnutls", "openssl", "gnutls"].enumerated() {
                    group.addTask {
                        let url = "coaps://\(address)/item-\(index)"
                        let program = "coap-client-\(build)"
                        try await Self.store("\(index) \(Self.request)", at: url, peers, by: program, Peers.coapKey)
                    }
                }
                try await group.waitForAll()
            }
            // Each client said goodbye.
            try await server.wait(until: "all clients were gone") { output in
                output.standardOutputText.components(separatedBy: "by the peer, after").count == 9
            }
        }
    }

    func testDtlsClientsWithCertificatesOfAPlainServer() async throws {
        try await withDeadline(seconds: 60) { peers in
            let authority = try await peers.authority()
            let ours = try await authority.issue("server")
            let theirs = try await authority.issue("client")
            let (_, plain) = try await peers.plainCoAPServer()
            let (server, address) = try await peers.startTunnel(
                "server",
                to: plain,
                ["--certificate", ours.certificateFile, "--private-key", ours.privateKeyFile]
                    + ["--client-ca", authority.certificateFile, "--require-client-certificate"]
            )
            let options = Peers.coapCertificate(theirs, authority)
            let url = "coaps://\(address)/item"
            try await Self.store(Self.request, at: url, peers, by: "coap-client-openssl", options)
            try await server.wait(for: "certificate CN=client\n")
        }
    }

    /// `coap-client-notls` -> tunnel -> `coap-server-openssl`.
    func testPlainClientsOfADtlsServer() async throws {
        try await withDeadline(seconds: 60) { peers in
            for build in [CoAPBuild.openSSL, .gnuTLS] {
                let (_, address) = try await peers.coapServer(build, ["-k", InteropKey.text, "-d", "10"])
                let (_, plain) = try await peers.startTunnel("client", to: address)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for index in 0..<3 {
                        group.addTask {
                            let url = "coap://\(plain)/item-\(index)"
                            try await Self.store("\(index) \(Self.request)", at: url, peers, by: "coap-client-notls")
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    /// This server ends every handshake that would resume a session: it asks for certificates and has no session ID
    /// context, which OpenSSL does not take. So the second client's is made anew, and the third one's is a full one.
    func testPlainClientsOfADtlsServerWithCertificates() async throws {
        try await withDeadline(seconds: 60) { peers in
            let authority = try await peers.authority()
            let theirs = try await authority.issue("server")
            let ours = try await authority.issue("client")
            let options = Peers.coapCertificate(theirs, authority) + ["-d", "10"]
            let (_, address) = try await peers.coapServer(.openSSL, options)
            let trust = ["--ca", authority.certificateFile, "--server-name", "localhost"]
            let identity = ["--certificate", ours.certificateFile, "--private-key", ours.privateKeyFile]
            let (client, plain) = try await peers.startTunnel("client", to: address, trust + identity)
            try await Self.store(Self.request, at: "coap://\(plain)/item", peers, by: "coap-client-notls")
            try await Self.store(Self.request, at: "coap://\(plain)/other", peers, by: "coap-client-notls")
            try await client.wait(until: "all have connected") { output in
                output.standardOutputText.components(separatedBy: ", certificate CN=server\n").count == 5
            }
            XCTAssertFalse(client.output.text.contains("failed"), client.description)
            // A server of another name is none that is wanted.
            let other = try await peers.startTunnel(
                "client",
                to: address,
                ["--ca", authority.certificateFile, "--server-name", "elsewhere.example"] + identity
            )
            let endpoint = try PlainEndpoint()
            endpoint.send("nobody may read this", to: other.address.port)
            try await other.peer.wait(for: "failed \(endpoint.address): ")
            try await other.peer.wait(for: "--server-name")
        }
    }
}

extension Peers {
    /// Starts `coap-server` without DTLS, which keeps up to ten resources that clients make.
    fileprivate func plainCoAPServer() async throws -> (peer: PeerProcess, address: DtlsAddress) {
        let host = "127.0.0.1"
        return try await startServer("coap-server-notls", at: host, isTaken: "cannot create") { output, port in
            output.text.contains("created TCP  endpoint \(host):\(port)")
        } arguments: { port in
            ["-A", host, "-p", "\(port)", "-v", "7", "-d", "10"]
        }
    }
}
