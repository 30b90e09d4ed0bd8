import BenchmarkSupport
import CLoad
import DTLSCore

/// An endpoint in a process of its own, and its peers, in this one.
final class Subject {
    private let endpoint: Endpoint
    private let child: ChildProcess
    private let peers: any Peers
    private let port: UInt16

    /// So many datagrams are on their way at once.
    private static let window = 256
    /// Larger than any of them.
    private static let stride = 1_536

    init(_ endpoint: Endpoint, connections: Int, connectionIDs: Bool) throws {
        self.endpoint = endpoint
        switch endpoint {
        case .server: peers = try EnginePeers(connections, role: .client, connectionIDs: connectionIDs)
        case .client: peers = try EnginePeers(connections, role: .server, connectionIDs: connectionIDs)
        case .twin, .sharingTwin: peers = try TwinPeers(connections)
        }
        let ids = connectionIDs ? "ids" : "none"
        child = try ChildProcess(arguments: [endpoint.rawValue, "\(connections)", "\(peers.port)", ids])
        port = UInt16(try child.number(after: "port"))
        if let peers = peers as? EnginePeers {
            if endpoint == .client { child.tell("connect") }
            try peers.shakeHands(with: port)
            if endpoint == .server { child.tell("count") }
            let open = try child.number(after: "open")
            guard open == connections else { throw Failure("\(open) connections are open, not \(connections)") }
        }
    }

    /// Has so many datagrams of random peers echoed, and returns the nanoseconds of CPU time for each.
    func measure(_ count: Int, bytes: Int, _ generator: inout Generator) throws -> Double {
        let payload = [UInt8](repeating: 0x58, count: bytes)
        var datagrams: [load_datagram] = []
        datagrams.reserveCapacity(count)
        var records: [UInt8] = []
        records.reserveCapacity(count * (bytes + 64))
        var last = -1
        for _ in 0..<count {
            var peer = generator.next(below: peers.count)
            // Two of one peer in a row may be one message for the kernel, which would be for few connections only.
            if peer == last { peer = (peer + 1) % peers.count }
            last = peer
            let start = records.count
            try peers.seal(payload, at: peer, into: &records)
            let size = UInt32(records.count - start)
            datagrams.append(load_datagram(address: PeerAddress.of(peer), size: size, offset: start))
        }
        var received = [load_datagram](repeating: load_datagram(), count: count)
        var answers = [UInt8](repeating: 0, count: count * Self.stride)
        let before = try child.cpuTime
        let answered = load_exchange(
            peers.descriptor,
            0x7F00_0001,
            port,
            datagrams,
            records,
            count,
            Self.window,
            &received,
            &answers,
            Self.stride
        )
        let time = try child.cpuTime - before
        guard answered == count else { throw Failure("\(endpoint.title) has echoed \(answered) of \(count) datagrams") }
        // What came back must be that, or it was not the work that is to be measured.
        for answer in received {
            let bytes = answers.span.bytes.extracting(answer.offset..<answer.offset + Int(answer.size))
            guard try peers.open(bytes, at: PeerAddress.peer(at: answer.address), expecting: payload) else {
                throw Failure("\(endpoint.title) has sent something else than an echo")
            }
        }
        return time / Double(count)
    }

    func end() { child.end() }
}
