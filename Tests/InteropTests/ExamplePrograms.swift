import DTLS
import Foundation
import XCTest

extension Peers {
    /// Starts one of this package's example programs.
    func startExample(
        _ name: String,
        _ arguments: [String],
        environment: [String: String] = [:]
    ) throws -> PeerProcess {
        try start(try pathOfExample(name), arguments, environment: environment)
    }

    func pathOfExample(_ name: String) throws -> String {
        let bundle = Bundle(for: ExampleProgramTests.self).bundleURL
        let tests = URL(fileURLWithPath: CommandLine.arguments[0])
        // The test bundle lies beside the programs; on Linux the bundle is the program that runs the tests.
        let folders = [bundle.deletingLastPathComponent(), bundle, tests.deletingLastPathComponent()]
        let paths = folders.map { $0.appendingPathComponent(name).path }
        guard let path = paths.first(where: FileManager.default.isExecutableFile(atPath:)) else {
            throw PeerFailure(description: "\(name) is not at any of \(paths)")
        }
        return path
    }

    /// Starts `dtls-echo-server`, on a port of its choice unless one is given, and returns when it listens.
    func startEchoServer(
        at host: String = "127.0.0.1",
        port: UInt16 = 0,
        _ options: [String],
        environment: [String: String] = [:]
    ) async throws -> (peer: PeerProcess, address: DtlsAddress) {
        let arguments = ["--port", "\(port)", "--host", host] + options
        let server = try startExample("dtls-echo-server", arguments, environment: environment)
        let prefix = "listening on "
        try await server.wait(until: "it said where it listens") { $0.standardOutput.contains(UInt8(ascii: "\n")) }
        let line = server.output.standardOutputText.prefix { $0 != "\n" }
        guard line.hasPrefix(prefix), let colon = line.lastIndex(of: ":"),
            let port = UInt16(line[line.index(after: colon)...])
        else {
            throw PeerFailure(description: "the first line is \"\(line)\"")
        }
        let address = try DtlsAddress(ipAddress: host, port: port)
        XCTAssertEqual(line, "\(prefix)\(address)")
        return (server, address)
    }

    /// Starts `dtls-client`.
    func startClient(_ address: DtlsAddress, _ options: [String]) throws -> PeerProcess {
        try startExample("dtls-client", [address.host, "\(address.port)"] + options)
    }

    /// Runs `dtls-client` to its end.
    func runClient(_ address: DtlsAddress, _ options: [String]) async throws -> (status: Int32, PeerProcess.Output) {
        let client = try startClient(address, options)
        let status = try await client.waitForExit()
        return (status, client.output)
    }

    /// Runs a program that fails: with one line on standard error that begins with its name, and nothing on standard
    /// output.
    ///
    /// - Returns: That line.
    @discardableResult
    func expectFailure(
        _ program: String,
        _ arguments: [String],
        status expected: Int32
    ) async throws -> String {
        let process = try startExample(program, arguments)
        let status = try await process.waitForExit()
        XCTAssertEqual(status, expected, process.description)
        let lines = process.output.standardErrorText.split(separator: "\n", omittingEmptySubsequences: false)
        XCTAssertEqual(lines.count, 2, process.description)
        XCTAssertTrue(lines.first?.hasPrefix("\(program): ") ?? false, process.description)
        XCTAssertEqual(process.output.standardOutputText, "", process.description)
        return String(lines.first ?? "")
    }
}
