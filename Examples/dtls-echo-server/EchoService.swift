import DTLS
import ExampleSupport

/// Serves every connection of a server, all at the same time.
struct EchoService {
    /// Whether to say nothing about connections.
    let isQuiet: Bool

    /// Returns when the server is closed and every connection has ended.
    func run(_ server: DtlsServer) async {
        await withDiscardingTaskGroup { group in
            for await connection in server {
                group.addTask { await serve(connection) }
            }
        }
    }

    private func serve(_ connection: DtlsConnection) async {
        let peer = connection.peerAddress
        let negotiated = connection.negotiated
        log("opened \(peer): \(negotiated.summary), \(negotiated.peerSummary)")
        async let lastAddress = followMoves(of: connection, from: peer)
        var echoed = 0
        do {
            for try await datagram in connection {
                if try await echo(datagram, on: connection) {
                    echoed += 1
                }
            }
        } catch {
            // The connection has failed; the reason for the next line says why.
        }
        connection.close()
        let reason = await connection.waitUntilClosed()
        log("closed \(await lastAddress): \(reason.summary), after \(counted(echoed, "echo", plural: "echoes"))")
    }

    /// Says where the peer goes to, until the connection ends, and returns where it was then.
    private func followMoves(of connection: DtlsConnection, from first: DtlsAddress) async -> DtlsAddress {
        guard !isQuiet else { return first }
        var address = first
        while let next = await connection.peerAddress(otherThan: address) {
            log("moved \(address) -> \(next)")
            address = next
        }
        // Nobody is told of a move right before the end.
        let last = connection.peerAddress
        if last != address { log("moved \(address) -> \(last)") }
        return last
    }

    private func echo(_ datagram: [UInt8], on connection: DtlsConnection) async throws(DtlsError) -> Bool {
        do {
            try await connection.send(datagram)
            return true
        } catch {
            // The peer may send more at once than --mtu allows this side, or the system may refuse to send right now.
            guard connection.state == .open else { throw error }
            log("dropped \(datagram.count) bytes from \(connection.peerAddress): \(error)")
            return false
        }
    }

    private func log(_ line: String) {
        if !isQuiet {
            Console.print(line)
        }
    }
}
