import ArgumentParser
import DTLS
import Glibc

@main
enum IdleMemory {
    static func main() async {
        let arguments = CommandLine.arguments.dropFirst()
        // Not a subcommand, so that --help has the options of who measures.
        if arguments.first == Serve.word {
            await Serve.main(Array(arguments.dropFirst()))
        } else {
            Measure.main(Array(arguments))
        }
    }
}

/// What the server is to be like.
struct ServerOptions: ParsableArguments {
    @Option(help: "The cipher suite, all with plain pre-shared keys.")
    var suite = Suite.ccm8

    @Flag(
        help: "A task for each connection that waits for its next datagram, instead of one that ends after the first."
    )
    var readers = false

    @Flag(help: "Say how many blocks of which size the allocator has given out for a connection.")
    var census = false

    @Option(
        help: ArgumentHelp(
            "How long the connections have been idle when they are counted. It is waited for twice for each line. From 240 "
                + "seconds on nothing of the handshake is left.",
            valueName: "seconds"
        )
    )
    var idle = 3.0

    /// The same options as arguments.
    var arguments: [String] {
        ["--suite", suite.rawValue, "--idle", "\(idle)"] + (readers ? ["--readers"] : [])
            + (census ? ["--census"] : [])
    }
}

enum Suite: String, ExpressibleByArgument, CaseIterable {
    case ccm8, gcm, chacha20

    var cipherSuite: DtlsCipherSuite {
        switch self {
        case .ccm8: .pskWithAES128CCM8
        case .gcm: .pskWithAES128GCM
        case .chacha20: .pskWithChaCha20Poly1305
        }
    }

    /// A configuration of either side.
    var configuration: DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .suites([cipherSuite])
        return configuration
    }
}

enum RecordLayer: String, ExpressibleByArgument, CaseIterable {
    case detached, openssl

    var value: DtlsRecordLayer {
        switch self {
        case .detached: .detached
        case .openssl: .openSSL
        }
    }
}

extension DtlsPreSharedKey {
    /// The one key of all clients.
    static func ofBenchmark() throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: "urn:dev:os:32473", key: Array(0..<16))
    }
}
