public import ArgumentParser
import DTLS

/// A command whose every failure is one line on standard error and an exit status: 64 for wrong usage, 1 otherwise
/// unless ``failureStatus`` says another.
public protocol ExampleCommand: AsyncParsableCommand {
    /// The status of every failure but wrong usage. Default: 1.
    static var failureStatus: ExitCode { get }
}

extension ExampleCommand {
    public static var failureStatus: ExitCode { .failure }

    /// Parses the command line, runs the command and ends the process with its status.
    public static func main() async {
        Console.ignoreBrokenPipes()
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            report(error)
        }
    }

    private static func report(_ error: any Error) -> Never {
        let status = exitStatus(for: error)
        guard !status.isSuccess, !(error is ExitCode) else {
            // Not a failure (--help and --version arrive here too), or one that says nothing.
            exit(withError: error)
        }
        let text = escapedForTerminal(message(of: error).replacing("\n", with: " ").utf8)
        let advice = status == .validationFailure ? " (see \(namedCommand) --help)" : ""
        Console.note("\(_commandName): \(text)\(advice)")
        exit(withError: status)
    }

    /// The command with the subcommand that the command line names.
    private static var namedCommand: String {
        let names = configuration.subcommands.map { $0._commandName }
        guard let first = CommandLine.arguments.dropFirst().first, names.contains(first) else { return _commandName }
        return "\(_commandName) \(first)"
    }

    private static func message(of error: any Error) -> String {
        error is DtlsError || error is ExampleFailure ? failureText(error) : message(for: error)
    }

    private static func exitStatus(for error: any Error) -> ExitCode {
        switch error {
        // The only place these examples take a configuration from is the command line.
        case DtlsError.Code.invalidConfiguration, DtlsError.Code.missingServerName: .validationFailure
        case is DtlsError, is ExampleFailure: failureStatus
        default: exitCode(for: error)
        }
    }
}

/// What failed, in one line. The library advises programmers; whoever runs a program has its options.
public func failureText(_ error: any Error) -> String {
    switch error {
    case let error as DtlsError: inOptions(error.description)
    case let error as ExampleFailure: error.message
    default: "\(error)"
    }
}

private func inOptions(_ text: String) -> String {
    let options = [
        ("add its root to the configuration's trust", "give its root's certificate with --ca"),
        ("serverName sets the expected one", "--server-name sets the expected one"),
        ("give its passphrase", "decrypt it first: openssl pkey -in FILE -out FILE"),
        ("raise the configuration's mtu", "raise --mtu"),
        ("set the client configuration's identity", "its option is --certificate"),
        ("set the configuration's identity", "give --certificate"),
        ("give the server's DNS name or IP address, or choose insecureIgnoreServerName", "give --server-name"),
    ]
    return options.reduce(text) { $0.replacing($1.0, with: $1.1) }
}

/// A failure of an example that is not the library's.
public struct ExampleFailure: Error {
    /// What happened, in one line.
    public let message: String

    /// Makes a failure with a line that says what happened.
    public init(_ message: String) {
        self.message = message
    }
}
