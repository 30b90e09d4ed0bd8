import DTLS
import Foundation
import XCTest

extension Peers {
    static let tunnelKey = ["--psk", "\(InteropKey.identity):\(InteropKey.text)"]

    /// Starts an end of `dtls-tunnel`, on a port of its choice unless one is given, and returns when it listens.
    func startTunnel(
        _ end: String,
        to target: DtlsAddress,
        port: UInt16 = 0,
        _ options: [String] = tunnelKey
    ) async throws -> (peer: PeerProcess, address: DtlsAddress) {
        let arguments = [end, "--listen", "127.0.0.1:\(port)", "--to", "\(target)"] + options
        let tunnel = try startExample("dtls-tunnel", arguments)
        try await tunnel.wait(until: "it said where it listens") { $0.standardOutput.contains(UInt8(ascii: "\n")) }
        let prefix = "listening on 127.0.0.1:"
        let line = tunnel.output.standardOutputText.prefix { $0 != "\n" }
        guard line.hasPrefix(prefix), let port = UInt16(line.dropFirst(prefix.count)) else {
            throw PeerFailure(description: "the first line is \"\(line)\"")
        }
        return (tunnel, try DtlsAddress(ipAddress: "127.0.0.1", port: port))
    }

    /// Both ends back to back.
    func startTunnels(
        to service: DtlsAddress,
        server serverOptions: [String] = tunnelKey,
        client clientOptions: [String] = tunnelKey
    ) async throws -> (server: PeerProcess, client: PeerProcess, address: DtlsAddress) {
        let (server, middle) = try await startTunnel("server", to: service, serverOptions)
        let (client, address) = try await startTunnel("client", to: middle, clientOptions)
        return (server, client, address)
    }
}

/// What `dtls-tunnel --stats` prints.
struct TunnelFigures {
    let peers: Int
    let intoDtls: Int
    let outOfDtls: Int
    let dropped: [String: Int]
    let whole: [String: Any]

    init?(line: some StringProtocol) {
        guard line.hasPrefix("{"),
            let whole = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
            let tunnel = whole["tunnel"] as? [String: Any],
            let peers = tunnel["peers"] as? Int,
            let intoDtls = (tunnel["plainToDtls"] as? [String: Int])?["datagrams"],
            let outOfDtls = (tunnel["dtlsToPlain"] as? [String: Int])?["datagrams"],
            let dropped = tunnel["dropped"] as? [String: Int]
        else { return nil }
        self.peers = peers
        self.intoDtls = intoDtls
        self.outOfDtls = outOfDtls
        self.dropped = dropped
        self.whole = whole
    }
}

extension PeerProcess {
    /// Waits until a line of `dtls-tunnel --stats` satisfies `condition`, and returns what it says.
    @discardableResult
    func waitForFigures(
        until description: String,
        _ condition: (TunnelFigures) -> Bool
    ) async throws -> TunnelFigures {
        var found: TunnelFigures?
        try await wait(until: description, seconds: 20) { output in
            let lines = output.standardOutputText.split(separator: "\n")
            found = lines.reversed().lazy.compactMap { TunnelFigures(line: $0) }.first
            return found.map(condition) ?? false
        }
        return try XCTUnwrap(found)
    }
}
