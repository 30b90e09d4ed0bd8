import DTLS

// Loss, and how long to wait.

// snippet.policy
var slow = DtlsConfiguration()
slow.retransmission = DtlsRetransmissionPolicy(
    initialTimeout: .seconds(2),
    maximumTimeout: .seconds(20),
    maximumAttempts: 6
)
slow.handshakeTimeout = .seconds(90)
// snippet.end

// snippet.mtu
var small = DtlsConfiguration()
small.mtu = 576
// snippet.end

let client = try await DtlsClient.bind()
let context = try DtlsClientContext(slow)

// snippet.connect
let connection = try await client.connect(
    to: "gadget.example",
    port: 5684,
    context: context,
    timeout: .seconds(20),
    reconnection: .whenSilent(for: .seconds(30))
)
// snippet.end

// snippet.again
/// Connects anew whenever the connection has ended, and resumes the session, until the task is cancelled.
func stayConnected(_ client: DtlsClient, _ context: DtlsClientContext) async throws {
    var session: DtlsSession?
    while true {
        do {
            let connection = try await client.connect(
                to: "gadget.example",
                port: 5684,
                context: context,
                session: session,
                reconnection: .whenSilent(for: .seconds(30))
            )
            // While it is open: after the end there is none any more.
            session = connection.session ?? session
            for try await datagram in connection { print("\(datagram.count) bytes") }
            print("ended: \(connection.closeReason.map { "\($0)" } ?? "not yet")")
        } catch {
            print("failed: \(error)")
        }
        // Not at once, for the server's sake. Throws when the task is cancelled.
        try await Task.sleep(for: .seconds(5))
    }
}
// snippet.end

// snippet.large
/// Sends what fits, in pieces that the other side can put together.
func send(_ message: [UInt8], on connection: DtlsConnection) async throws(DtlsError) {
    var rest = message[...]
    while !rest.isEmpty {
        // Asked each time: the path may turn out to carry less.
        let piece = rest.prefix(connection.maximumPayloadSize)
        do {
            try await connection.send(Array(piece))
            rest = rest.dropFirst(piece.count)
        } catch DtlsError.Code.payloadTooLarge {
            continue
        }
    }
}
// snippet.end

let upkeep = Task { try await stayConnected(client, context) }
upkeep.cancel()
try await send([UInt8](repeating: 0, count: 4_000), on: connection)

// snippet.drops
let drops = connection.statistics.drops
print(drops[.unopenedRecord], "records did not open;", drops[.receiveQueueFull], "payloads were read too late")
print(connection.statistics.retransmissions, "flights were sent again;", drops.total, "drops in all")
// snippet.end
await client.close()
