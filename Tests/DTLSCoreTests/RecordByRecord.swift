import DTLSTestSupport
import Foundation

@testable import DTLSCore

/// A handshake without a cookie whose records travel one at a time, each as a datagram of its own, so that a test can
/// come between any two: between a ChangeCipherSpec and its Finished, too.
final class RecordByRecord {
    let client: EnginePeer
    let server: EnginePeer
    private let pair: EnginePair
    private var underWay: [(to: EnginePeer, record: [UInt8])] = []

    init(_ options: PairOptions) throws {
        var options = options
        options.usesGate = false
        pair = try EnginePair(options)
        client = pair.client
        server = try pair.serverPeer()
    }

    var isOpen: Bool { client.engine.isOpen && server.engine.isOpen }
    var sides: [(name: String, peer: EnginePeer)] { [("client", client), ("server", server)] }
    var story: String { pair.story }

    func start() {
        pair.start()
    }

    /// Delivers one record. Returns whether there was one.
    func step() -> Bool {
        for (from, to) in [(client, server), (server, client)] {
            for datagram in from.takeOutbox() {
                underWay += (RecordDump.parse(datagram) ?? []).map { (to, $0.bytes) }
            }
        }
        guard !underWay.isEmpty else { return false }
        let (to, record) = underWay.removeFirst()
        to.receive(record)
        return true
    }

    /// Lets records travel, and time pass, until `condition` holds. Returns whether it does.
    func run(until condition: () -> Bool) -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + .seconds(20)
        while true {
            while step() {}
            if condition() { return true }
            guard let next = pair.nextDeadline, clock.now < end else { return false }
            if next > clock.now { Thread.sleep(forTimeInterval: 0.001) }
            pair.fireTimers(now: clock.now)
        }
    }

    /// Sends a payload either way. Returns whether both came, once and whole.
    func echoes() throws -> Bool {
        let before = (client.payloads.count, server.payloads.count)
        try client.send([1, 2, 3])
        try server.send([4, 5])
        while step() {}
        return Array(server.payloads[before.1...]) == [[1, 2, 3]] && Array(client.payloads[before.0...]) == [[4, 5]]
    }
}
