import DTLS
import DTLSPrimitives
import Foundation
import Synchronization

/// The peer programs and files of one test, which end with it.
final class Peers: Sendable, CustomStringConvertible {
    private let running = Mutex<[PeerProcess]>([])

    /// Where the test's files go.
    let directory: URL

    init() {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("swift-dtls-interop-\(UUID())")
    }

    /// Starts a program: a name to be found on the PATH, or a path. It has this process's environment, and
    /// `environment` beside.
    func start(
        _ program: String,
        _ arguments: [String],
        environment: [String: String] = [:]
    ) throws -> PeerProcess {
        let path = program.contains("/") ? program : try PeerPrograms.path(of: program)
        let peer = try PeerProcess(path: path, arguments: arguments, environment: environment)
        running.withLock { $0.append(peer) }
        return peer
    }

    /// Starts a server on a free UDP port and returns when it listens.
    ///
    /// Another program may take the port between its choice and its use: then another port is tried.
    ///
    /// - Parameters:
    ///   - isReady: Whether the server's output says that it listens.
    ///   - isTaken: What the server writes when the port is in use.
    ///   - arguments: The command line for a port.
    func startServer(
        _ program: String,
        at host: String,
        isTaken: String,
        isReady: @escaping @Sendable (PeerProcess.Output, UInt16) -> Bool,
        arguments: (UInt16) -> [String]
    ) async throws -> (peer: PeerProcess, address: DtlsAddress) {
        var attempts = 5
        while true {
            let port = try FreePort.find(for: host)
            let peer = try start(program, arguments(port))
            try await peer.wait(until: "it listened on port \(port)") { output in
                isReady(output, port) || output.text.contains(isTaken)
            }
            if !peer.output.text.contains(isTaken) { return (peer, try DtlsAddress(ipAddress: host, port: port)) }
            peer.end()
            attempts -= 1
            if attempts == 0 { throw PeerFailure(description: "no free port: \(peer.description)") }
        }
    }

    /// Writes a file into the test's directory, readable only by this user, and returns its path.
    func write(_ text: String, to name: String) throws -> String {
        try makeDirectory()
        let path = directory.appendingPathComponent(name).path
        let attributes: [FileAttributeKey: Any] = [.posixPermissions: 0o600]
        guard FileManager.default.createFile(atPath: path, contents: Data(text.utf8), attributes: attributes) else {
            throw PeerFailure(description: "cannot write \(path)")
        }
        return path
    }

    func makeDirectory() throws {
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    }

    /// Ends every program and removes every file.
    func end() {
        for peer in running.withLock({ $0 }) { peer.end() }
        try? FileManager.default.removeItem(at: directory)
    }

    /// What every program has written.
    var description: String {
        running.withLock { $0 }.map(\.description).joined(separator: "\n")
    }
}
