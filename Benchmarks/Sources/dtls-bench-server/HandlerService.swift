import DTLS

/// Each message where it comes in, on the socket's queue.
enum HandlerService {
    static func run(_ server: DtlsServer) async {
        server.handleConnections { connection in
            let count = Count()
            connection.handleDatagrams { connection, message in
                switch count.tally.take(message) {
                case .none: break
                // What the socket has no room for is lost, as the benchmark's other servers lose it.
                case .echo: _ = try? connection.trySend(message)
                case .report(let report): _ = try? connection.trySend(report)
                }
            }
        }
        // Until it is closed, as nothing comes here any more.
        for await _ in server {}
    }

    /// `@unchecked Sendable`: the handler alone has it, and is called for one message after the other.
    private final class Count: @unchecked Sendable {
        var tally = Tally()
    }
}
