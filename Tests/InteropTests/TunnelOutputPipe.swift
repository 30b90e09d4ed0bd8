import Foundation

/// A pipe for a program's standard output which is read only when the test wants it, and holds little.
final class TunnelOutputPipe {
    let path: String
    private let descriptor: Int32
    private var bytes: [UInt8] = []

    init(in directory: URL) throws {
        path = directory.appendingPathComponent("output").path
        // Opened before there is somebody to write, so that nobody waits for the other.
        guard mkfifo(path, 0o600) == 0, case let descriptor = open(path, O_RDONLY | O_NONBLOCK), descriptor >= 0 else {
            throw PeerFailure(description: "no pipe at \(path) (errno \(errno))")
        }
        self.descriptor = descriptor
        #if os(Linux)
            // F_SETPIPE_SZ, which Glibc's module does not show.
            _ = fcntl(descriptor, 1031, 4_096)
        #endif
    }

    deinit { close(descriptor) }

    /// Everything that was read so far.
    var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Reads the first line, and no more.
    func firstLine() async throws -> String {
        try await read(until: "it said where it listens", atOnce: 1) { $0.last == UInt8(ascii: "\n") }
        return String(text.dropLast())
    }

    /// Reads until `text` has come.
    func read(until text: String) async throws {
        try await read(until: "it wrote \"\(text)\"", atOnce: 65_536) { bytes in
            String(decoding: bytes, as: UTF8.self).contains(text)
        }
    }

    private func read(until description: String, atOnce most: Int, _ condition: ([UInt8]) -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(20)
        var buffer = [UInt8](repeating: 0, count: most)
        while !condition(bytes) {
            let count = Foundation.read(descriptor, &buffer, most)
            if count > 0 {
                bytes += buffer[..<count]
                continue
            }
            guard ContinuousClock.now < deadline else {
                throw PeerFailure(description: "waited in vain until \(description)\n\(text)")
            }
            try await Task.sleep(for: .milliseconds(2))
        }
    }
}
