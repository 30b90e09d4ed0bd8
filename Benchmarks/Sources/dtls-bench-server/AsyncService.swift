import DTLS

/// A task for each connection, on the global pool.
enum AsyncService {
    static func run(_ server: DtlsServer) async {
        await withDiscardingTaskGroup { group in
            for await connection in server {
                group.addTask { try? await serve(connection) }
            }
        }
    }

    /// A task for each connection, on the socket's queue.
    static func runOnLoop(_ server: DtlsServer) async {
        await server.serve { connection in try await serve(connection) }
    }

    private static func serve(_ connection: DtlsConnection) async throws(DtlsError) {
        var tally = Tally()
        for try await message in connection {
            switch tally.take(message.span.bytes) {
            case .none: continue
            case .echo: try await connection.send(message)
            case .report(let report): try await connection.send(report)
            }
        }
    }
}
