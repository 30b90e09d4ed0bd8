import DTLSPrimitives
import Foundation

/// A program that runs beside a test: its output is collected as it comes, and it never outlives the test.
///
/// `@unchecked`, because `Process` and `Pipe` say nothing about it on every platform: they are used from one test at a
/// time, and what the reading threads and the termination handler change is behind the lock of `Transcript`.
final class PeerProcess: @unchecked Sendable {
    /// What the program has written so far, and how it ended.
    struct Output: Sendable {
        var standardOutput: [UInt8] = []
        var standardError: [UInt8] = []
        /// The exit status, or the negated number of the signal that ended the program.
        var status: Int32?
        fileprivate var openPipes = 2

        /// Whether the program has ended and everything that it wrote is here.
        var isComplete: Bool { status != nil && openPipes == 0 }

        /// Both streams as text.
        var text: String { standardOutputText + standardErrorText }
        var standardOutputText: String { String(decoding: standardOutput, as: UTF8.self) }
        var standardErrorText: String { String(decoding: standardError, as: UTF8.self) }
    }

    /// `@unchecked`: the lock guards `value`. (It is no `Mutex`, because ThreadSanitizer does not see that of Swift 6.3
    /// on Linux.)
    private final class Transcript: @unchecked Sendable {
        private let lock = NSLock()
        private var value = Output()

        var output: Output { lock.withLock { value } }

        func change(_ body: (inout Output) -> Void) {
            lock.withLock { body(&value) }
        }
    }

    let name: String
    private let arguments: [String]
    private let process = Process()
    private let input = Pipe()
    private let transcript = Transcript()

    /// Starts the program at `path`.
    init(path: String, arguments: [String], environment: [String: String] = [:]) throws {
        Self.ignoreBrokenPipes
        name = URL(fileURLWithPath: path).lastPathComponent
        self.arguments = arguments
        let output = Pipe()
        let errors = Pipe()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        if !environment.isEmpty {
            process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        }
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        process.terminationHandler = { [transcript] process in
            let status = process.terminationStatus
            let reason = process.terminationReason
            transcript.change { $0.status = reason == .exit ? status : -status }
        }
        try Self.withEverySignalUnblocked { try process.run() }
        collect(output) { $0.standardOutput += $1 }
        collect(errors) { $0.standardError += $1 }
    }

    /// A peer that has ended must not end the tests with it.
    private static let ignoreBrokenPipes: Void = { _ = signal(SIGPIPE, SIG_IGN) }()

    /// Programs inherit the signals that are blocked, and the threads that run tasks block SIGINT and SIGTERM on Linux.
    private static func withEverySignalUnblocked(_ body: () throws -> Void) rethrows {
        var none = sigset_t()
        var before = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        try body()
    }

    private func collect(_ pipe: Pipe, _ append: @escaping @Sendable (inout Output, ArraySlice<UInt8>) -> Void) {
        let handle = pipe.fileHandleForReading
        Thread.detachNewThread { [transcript] in
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = read(handle.fileDescriptor, &buffer, buffer.count)
                if count > 0 {
                    transcript.change { append(&$0, buffer[..<count]) }
                } else if count == 0 || errno != EINTR {
                    break
                }
            }
            transcript.change { $0.openPipes -= 1 }
        }
    }

    /// What the program has written so far.
    var output: Output { transcript.output }

    /// Writes to the program's standard input.
    func write(_ text: String) throws {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Foundation.write(input.fileHandleForWriting.fileDescriptor, $0.baseAddress, $0.count)
            }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno != EINTR {
                throw failure("takes no input (errno \(errno))")
            }
        }
    }

    /// Ends the program's standard input.
    func closeInput() {
        try? input.fileHandleForWriting.close()
    }

    /// Sends a signal to the program, and only to it.
    func send(signal: Int32) {
        if output.status == nil { _ = kill(process.processIdentifier, signal) }
    }

    /// Ends the program at once, whatever it does. Does nothing when it has ended already.
    func end() {
        send(signal: SIGKILL)
        closeInput()
    }

    /// Waits until `condition` holds for what the program has written.
    func wait(
        until description: String,
        seconds: Double = 10,
        _ condition: (Output) -> Bool
    ) async throws {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while true {
            let output = self.output
            if condition(output) { return }
            if output.isComplete { throw failure("ended before \(description)") }
            if ContinuousClock.now > deadline { throw failure("kept the test waiting until \(description)") }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Waits until the program has written `text` to its standard output or error.
    func wait(for text: String, seconds: Double = 10) async throws {
        try await wait(until: "it wrote \"\(text)\"", seconds: seconds) { output in
            output.standardOutputText.contains(text) || output.standardErrorText.contains(text)
        }
    }

    /// Waits until the program has ended and all its output is here.
    @discardableResult
    func waitForExit(seconds: Double = 10) async throws -> Int32 {
        try await wait(until: "it ended", seconds: seconds) { $0.isComplete }
        return output.status ?? -1
    }

    /// The command line and everything that was written, for a failure's message.
    var description: String {
        let output = self.output
        let status = output.status.map { "ended with status \($0)" } ?? "is running"
        return """
            --- \(name) \(arguments.joined(separator: " "))
            --- \(status); standard output:
            \(output.standardOutputText)
            --- standard error:
            \(output.standardErrorText)
            ---
            """
    }

    private func failure(_ what: String) -> PeerFailure {
        PeerFailure(description: "\(name) \(what)\n\(description)")
    }
}

/// A peer program that did not do what a test needs of it.
struct PeerFailure: Error, CustomStringConvertible {
    let description: String
}
