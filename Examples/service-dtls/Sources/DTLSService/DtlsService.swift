public import DTLS
public import ServiceLifecycle

/// A `DtlsServer` as a service of a `ServiceGroup`: each connection has a task, a graceful shutdown drains the server,
/// cancellation closes it.
///
/// ```swift
/// let server = try await DtlsServer.bind(port: 5684, context: context)
/// let service = DtlsService(server, drainsFor: .seconds(20)) { connection in
///     for try await datagram in connection { try await connection.send(datagram) }
/// }
/// let group = ServiceGroup(services: [service], gracefulShutdownSignals: [.sigterm], logger: logger)
/// try await group.run()
/// ```
///
/// A group has its own limits, `maximumGracefulShutdownDuration` and `maximumCancellationDuration`; leave the first one
/// longer than the drain.
public struct DtlsService: Service {
    private let server: DtlsServer
    private let drainTimeout: Duration
    private let body: @Sendable (DtlsConnection) async throws -> Void

    /// Makes a service of a server, which is closed when the service has run.
    ///
    /// - Parameters:
    ///   - server: A server that nobody else takes connections from.
    ///   - drainTimeout: How long a graceful shutdown waits for the connections that are there, after which they are
    ///     closed. Nobody new gets in meanwhile. Default: 10 seconds.
    ///   - body: Called for each connection, as `DtlsServer.serve(_:)` does: on the socket's loop, so it must not
    ///     block. With `withGracefulShutdownHandler` it learns of the shutdown, and may tell its peer in the
    ///     application's own protocol.
    public init(
        _ server: DtlsServer,
        drainsFor drainTimeout: Duration = .seconds(10),
        _ body: @escaping @Sendable (_ connection: DtlsConnection) async throws -> Void
    ) {
        self.server = server
        self.drainTimeout = drainTimeout
        self.body = body
    }

    /// Serves until the group shuts down gracefully and the drain is over, the task is cancelled, or the server is
    /// closed by something else, which a group takes for a failure.
    public func run() async throws {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                // It throws when the task is cancelled: then there is nothing to drain.
                guard (try? await gracefulShutdown()) != nil else { return }
                await server.drain(for: drainTimeout)
            }
            // The tasks of connections are below this one, so they see the shutdown, and cancellation reaches them.
            group.addTask { await server.serve(body) }
            // The drain is over, or the server was closed: what still runs waits for something else.
            await group.next()
            group.cancelAll()
        }
        await server.close()
    }
}
