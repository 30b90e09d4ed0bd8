import DTLS
import Synchronization

/// The server's end: a plain socket to the service for each DTLS client.
final class ServerTunnel: Sendable {
    let service: Service
    let tally = Tally()
    let journal: Journal
    let sender: DtlsSender
    private let loops: [PlainLoop]
    private let nextLoop = Atomic(0)

    init(to service: Service, loops: Int, journal: Journal) {
        self.service = service
        self.journal = journal
        sender = DtlsSender(tally: tally, journal: journal)
        self.loops = (0..<loops).map { PlainLoop(label: "dtls-tunnel.plain.\($0)") }
    }

    /// Carries what comes through a connection to the service, and back, until the connection ends.
    func carry(_ connection: DtlsConnection) {
        tally.peerCame()
        let index = nextLoop.wrappingAdd(1, ordering: .relaxed).oldValue
        let client = ServedClient(connection, of: self, on: loops[index % loops.count])
        connection.handleDatagrams { _, datagram in
            client.received(datagram)
        } closed: { _, reason in
            client.closed(reason)
        }
    }
}
