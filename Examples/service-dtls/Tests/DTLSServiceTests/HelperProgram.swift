import Foundation

/// A program that runs beside a test, whose output is collected as it comes.
///
/// `@unchecked Sendable`: the lock guards what changes; `Process` is used by one test at a time.
final class HelperProgram: @unchecked Sendable {
    private let process = Process()
    private let input = Pipe()
    private let lock = NSLock()
    private var collected = ""

    /// Starts a program, of the path if its name has no slash.
    init(_ name: String, _ arguments: [String]) throws {
        process.executableURL = URL(fileURLWithPath: name.contains("/") ? name : "/usr/bin/env")
        process.arguments = name.contains("/") ? arguments : [name] + arguments
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        process.standardError = output
        try Self.withEverySignalUnblocked { try process.run() }
        let descriptor = output.fileHandleForReading
        Thread.detachNewThread { [self] in
            while true {
                let data = descriptor.availableData
                if data.isEmpty { return }
                lock.withLock { collected += String(decoding: data, as: UTF8.self) }
            }
        }
    }

    /// Programs inherit the signals that are blocked, and the threads that run tasks block SIGINT and SIGTERM on Linux.
    private static func withEverySignalUnblocked(_ body: () throws -> Void) rethrows {
        var none = sigset_t()
        var before = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        try body()
    }

    var text: String { lock.withLock { collected } }

    /// Its exit status; `nil` while it runs.
    var status: Int32? { process.isRunning ? nil : process.terminationStatus }

    func write(_ text: String) throws {
        try input.fileHandleForWriting.write(contentsOf: Data(text.utf8))
    }

    func send(signal: Int32) {
        if process.isRunning { kill(process.processIdentifier, signal) }
    }

    func end() {
        send(signal: SIGKILL)
        process.waitUntilExit()
    }

    /// A program that this package has built, which lies beside its tests.
    static func built(_ name: String, _ arguments: [String], beside test: AnyClass) throws -> HelperProgram {
        let bundle = Bundle(for: test).bundleURL
        let tests = URL(fileURLWithPath: CommandLine.arguments[0])
        // On Linux the bundle is the program that runs the tests.
        let folders = [bundle.deletingLastPathComponent(), bundle, tests.deletingLastPathComponent()]
        let paths = folders.map { $0.appendingPathComponent(name).path }
        guard let path = paths.first(where: FileManager.default.isExecutableFile(atPath:)) else {
            throw TestFailure(description: "\(name) is not at any of \(paths)")
        }
        return try HelperProgram(path, arguments)
    }
}

struct TestFailure: Error, CustomStringConvertible {
    let description: String
}

/// Waits for a condition, and fails after half a minute.
func eventually(_ what: String, _ condition: @Sendable () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while try await !condition() {
        guard ContinuousClock.now < deadline else { throw TestFailure(description: "\(what): not within 30 s") }
        try await Task.sleep(for: .milliseconds(5))
    }
}
