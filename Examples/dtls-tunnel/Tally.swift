import DTLS
import Synchronization

/// Why a datagram did not get through the tunnel.
enum TunnelDrop: String, CaseIterable {
    /// A plain datagram larger than what a DTLS record has room for.
    case tooLargeForDtls
    /// A datagram out of the tunnel larger than the plain side takes.
    case tooLargeForPlain
    /// An empty one, which DTLS cannot carry.
    case empty
    /// More came during a handshake than is kept.
    case handshakeQueueFull
    /// A socket's buffer was full.
    case socketFull
    /// Nobody listens at the plain service's port (ICMP).
    case refused
    /// The plain service has no address yet, or the system has no socket or no way to it.
    case noService
    /// There is no connection to the DTLS server.
    case noServer
    /// One whose source is said to be the client's end itself.
    case ownAddress
    /// All places for peers are taken.
    case tooManyPeers
}

/// What went through a tunnel.
final class Tally: Sendable {
    private struct Rest {
        var drops = [Int](repeating: 0, count: TunnelDrop.allCases.count)
        var peers = 0
        var mostPeers = 0
    }

    // Each side of the traffic has its own thread, so these have no lock to wait for.
    private let intoDtls = Atomic(0)
    private let bytesIntoDtls = Atomic(0)
    private let outOfDtls = Atomic(0)
    private let bytesOutOfDtls = Atomic(0)
    private let rest = Guarded(Rest())

    /// A plain datagram was sent through DTLS.
    func carriedIntoDtls(_ bytes: Int) {
        intoDtls.add(1, ordering: .relaxed)
        bytesIntoDtls.add(bytes, ordering: .relaxed)
    }

    /// A datagram out of DTLS was sent to the plain side.
    func carriedOutOfDtls(_ bytes: Int) {
        outOfDtls.add(1, ordering: .relaxed)
        bytesOutOfDtls.add(bytes, ordering: .relaxed)
    }

    func dropped(_ reason: TunnelDrop, _ count: Int = 1) {
        guard count > 0, let index = TunnelDrop.allCases.firstIndex(of: reason) else { return }
        rest.withLock { $0.drops[index] += count }
    }

    func peerCame() {
        rest.withLock { rest in
            rest.peers += 1
            rest.mostPeers = max(rest.mostPeers, rest.peers)
        }
    }

    func peerWent() {
        rest.withLock { $0.peers -= 1 }
    }

    var peers: Int { rest.withLock { $0.peers } }

    var mostPeers: Int { rest.withLock { $0.mostPeers } }

    /// Everything as JSON. What is zero is there too.
    var json: String {
        let (drops, peers, mostPeers) = rest.withLock { ($0.drops, $0.peers, $0.mostPeers) }
        let reasons = zip(TunnelDrop.allCases, drops).map { "\"\($0.rawValue)\":\($1)" }.joined(separator: ",")
        return "{\"peers\":\(peers),\"mostPeers\":\(mostPeers),"
            + "\"plainToDtls\":\(Self.traffic(intoDtls, bytesIntoDtls)),"
            + "\"dtlsToPlain\":\(Self.traffic(outOfDtls, bytesOutOfDtls)),"
            + "\"dropped\":{\(reasons)}}"
    }

    private static func traffic(_ datagrams: borrowing Atomic<Int>, _ bytes: borrowing Atomic<Int>) -> String {
        "{\"datagrams\":\(datagrams.load(ordering: .relaxed)),\"bytes\":\(bytes.load(ordering: .relaxed))}"
    }
}
