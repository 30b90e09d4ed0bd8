import DTLS
import Foundation
import XCTest

/// rsyslog behind both ends of `dtls-tunnel`.
final class TunnelSyslogTests: XCTestCase {
    /// `logger` has a new port for each message, so each has a handshake; a program that keeps its socket has one.
    func testMessagesReachTheLog() async throws {
        try await withDeadline(seconds: 60) { peers in
            let syslog = try await peers.startSyslog()
            let (server, client, address) = try await peers.startTunnels(to: syslog.address)
            let count = 20
            let endpoint = try PlainEndpoint()
            for index in 0..<count {
                endpoint.send("<14>Nov 26 12:00:00 device app: number \(index)", to: address.port)
            }
            for name in ["one", "two"] {
                let options = ["--udp", "--server", "127.0.0.1", "--port", "\(address.port)", "--rfc3164"]
                let logger = try peers.start("logger", options + ["--tag", name, "a message of logger"])
                let status = try await logger.waitForExit()
                XCTAssertEqual(status, 0, logger.description)
            }
            try await syslog.waitForLines { lines in
                lines.count { $0.contains("a message of logger") } == 2
                    && lines.count { $0.contains("number") } == count
            }
            // In the order in which they were sent, as this way keeps it.
            let numbers = try syslog.lines().filter { $0.contains("number") }
            XCTAssertEqual(numbers.map { $0.split(separator: " ").last ?? "" }, (0..<count).map { "\($0)" })
            XCTAssertEqual(client.output.text.components(separatedBy: "opened").count, 4, client.description)

            server.send(signal: SIGTERM)
            let status = try await server.waitForExit()
            XCTAssertEqual(status, 0)
            try await client.wait(for: ": by the peer, after \(count) to the server and 0 back\n")
            client.send(signal: SIGTERM)
            let clientStatus = try await client.waitForExit()
            XCTAssertEqual(clientStatus, 0)
        }
    }
}

/// A running `rsyslogd`.
private struct Syslog {
    let address: DtlsAddress
    let file: String
    let peer: PeerProcess

    /// What it has written, without the probes.
    func lines() throws -> [String] {
        guard FileManager.default.fileExists(atPath: file) else { return [] }
        let text = try String(contentsOfFile: file, encoding: .utf8)
        return text.split(separator: "\n").map(String.init).filter { !$0.contains("a probe") }
    }

    func waitForLines(_ condition: ([String]) -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        while !condition(try lines()) {
            guard ContinuousClock.now < deadline else {
                throw PeerFailure(description: "the log has \(try lines())\n\(peer.description)")
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}

extension Peers {
    /// Starts `rsyslogd` on a free port, and returns when it has written something down.
    fileprivate func startSyslog() async throws -> Syslog {
        let address = try DtlsAddress(ipAddress: "127.0.0.1", port: FreePort.find(for: "127.0.0.1"))
        try makeDirectory()
        let file = directory.appendingPathComponent("log").path
        let configuration = try write(
            """
            module(load="imudp")
            input(type="imudp" address="127.0.0.1" port="\(address.port)")
            template(name="whole" type="string" string="%rawmsg%\\n")
            action(type="omfile" file="\(file)" template="whole")

            """,
            to: "rsyslog.conf"
        )
        let identity = directory.appendingPathComponent("rsyslogd.pid").path
        // Where it is, which is not on everybody's PATH.
        let usual = "/usr/sbin/rsyslogd"
        let program = FileManager.default.isExecutableFile(atPath: usual) ? usual : "rsyslogd"
        let peer = try start(program, ["-n", "-f", configuration, "-i", identity])
        // It does not say when it listens.
        let endpoint = try PlainEndpoint()
        try await peer.wait(until: "it logged") { _ in
            endpoint.send("<14>Nov 26 12:00:00 device app: a probe", to: address.port)
            return (try? String(contentsOfFile: file, encoding: .utf8))?.contains("a probe") ?? false
        }
        return Syslog(address: address, file: file, peer: peer)
    }
}
