import CoreMetrics
import DTLS
import DTLSService
import Logging
import ServiceLifecycle
import UnixSignals

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// An echo server as two services: one serves, the other counts. README.md shows how to run it.
@main
enum DtlsEchoService {
    static func main() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, let port = UInt16(arguments[1]), let colon = arguments[2].firstIndex(of: ":") else {
            print("usage: dtls-echo-service PORT IDENTITY:KEY")
            exit(64)
        }
        let secret = arguments[2][arguments[2].index(after: colon)...]
        let key = try DtlsPreSharedKey(identity: String(arguments[2][..<colon]), key: Array(secret.utf8))

        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        let metrics = TextMetrics()
        MetricsSystem.bootstrap(metrics)
        let logger = Logger(label: "dtls-echo-service")

        let context = try DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([key]))
        let server = try await DtlsServer.bind(port: port, context: context, logger: logger)
        print("listening on \(server.localAddress)")
        fflush(nil)

        let echo = DtlsService(server, drainsFor: .seconds(20)) { connection in
            try await withGracefulShutdownHandler {
                for try await datagram in connection { try await connection.send(datagram) }
            } onGracefulShutdown: {
                // Whatever the application's protocol has for that.
                _ = try? connection.trySend(Array("going away".utf8))
            }
        }
        let counting = DtlsMetricsService { server.statistics }
        var configuration = ServiceGroupConfiguration(
            services: [counting, echo],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: logger
        )
        configuration.maximumGracefulShutdownDuration = .seconds(30)
        try await ServiceGroup(configuration: configuration).run()
        print(metrics.text)
    }
}
