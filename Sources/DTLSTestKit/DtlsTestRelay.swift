public import DTLS
import Dispatch

/// A bad link between real sockets: a UDP relay on loopback that does to datagrams what ``DtlsLinkConditions`` say,
/// between any clients and a server, be they this library's or foreign ones.
///
/// Point clients at ``address``. Each of them has its own address at the server and its own two links, whose seeds
/// follow from the relay's and from the order in which clients appear. Up to 1,024 clients are served, as long as the
/// system has descriptors; datagrams of others are lost.
///
/// It runs on a Dispatch queue of its own, in real time, and ends with ``close()`` or when it is released. Everything
/// may be called from any thread or task.
public final class DtlsTestRelay: Sendable {
    /// Where clients find the server: `127.0.0.1` or `::1`, and a port that the system has picked.
    public let address: DtlsAddress

    private let core: Core

    /// Opens a relay to a server.
    ///
    /// - Parameters:
    ///   - server: Where the server listens: an address that can be reached from loopback.
    ///   - toServer: What happens to datagrams on their way to the server. Default: nothing.
    ///   - toClient: What happens to datagrams on their way to a client. Default: nothing.
    ///   - seed: Decides, with the conditions, what becomes of each datagram.
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for conditions out of their range,
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/socketFailed`` when the system has no descriptor or no port left.
    public init(
        to server: DtlsAddress,
        toServer: DtlsLinkConditions = DtlsLinkConditions(),
        toClient: DtlsLinkConditions = DtlsLinkConditions(),
        seed: UInt64
    ) throws(DtlsError) {
        try toServer.validate()
        try toClient.validate()
        core = Core(
            server: server,
            front: try RelaySocket(isIPv6: server.isIPv6),
            toServer: toServer,
            toClient: toClient,
            seed: seed
        )
        address = core.front.address
        core.start()
    }

    deinit { core.shutDown() }

    /// Changes what happens to datagrams from now on, for clients known and new. It does not wait until that is done:
    /// what comes before it is may still meet the former conditions.
    ///
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for conditions out of their range.
    public func setConditions(toServer: DtlsLinkConditions, toClient: DtlsLinkConditions) throws(DtlsError) {
        try toServer.validate()
        try toClient.validate()
        core.queue.async { [core] in core.setConditions(toServer, toClient) }
    }

    /// What became of the datagrams so far, of all clients together; after ``close()`` up to then.
    public func counts() async -> (toServer: DtlsLinkCounts, toClient: DtlsLinkCounts) {
        await withCheckedContinuation { continuation in
            core.queue.async { [core] in continuation.resume(returning: core.counts) }
        }
    }

    /// Ends the relay: what is on the way is lost, as is everything that comes from now on. A second call does nothing.
    public func close() async {
        await withCheckedContinuation { continuation in
            core.queue.async { [core] in
                core.end()
                continuation.resume()
            }
        }
    }

    /// The inside.
    ///
    /// `@unchecked Sendable`: everything that changes is touched on its queue alone, `start` and `init` aside, which
    /// come before.
    private final class Core: @unchecked Sendable {
        let queue = DispatchQueue(label: "swift-dtls.test-relay")
        let server: DtlsAddress
        let front: RelaySocket
        private var conditions: (toServer: DtlsLinkConditions, toClient: DtlsLinkConditions)
        private let seed: UInt64
        private var paths: [DtlsAddress: Path] = [:]
        private var sources: [any DispatchSourceProtocol] = []
        private let timer: any DispatchSourceTimer
        private var isEnded = false
        private var ended = (toServer: DtlsLinkCounts(), toClient: DtlsLinkCounts())

        private static let maximumPaths = 1_024

        /// So many datagrams are read from a socket before others have their turn.
        private static let datagramsPerWakeup = 64

        private struct Path {
            let back: RelaySocket
            var toServer: DtlsTestLink
            var toClient: DtlsTestLink

            var nextArrival: ContinuousClock.Instant? {
                [toServer.nextArrival, toClient.nextArrival].compactMap { $0 }.min()
            }
        }

        init(
            server: DtlsAddress,
            front: RelaySocket,
            toServer: DtlsLinkConditions,
            toClient: DtlsLinkConditions,
            seed: UInt64
        ) {
            self.server = server
            self.front = front
            conditions = (toServer, toClient)
            self.seed = seed
            timer = DispatchSource.makeTimerSource(queue: queue)
        }

        func start() {
            timer.setEventHandler { [weak self] in self?.deliver() }
            timer.activate()
            sources.append(timer)
            watch(front) { [weak self] in self?.readFront() }
        }

        /// From outside of the queue.
        func shutDown() {
            queue.async { self.end() }
        }

        func end() {
            guard !isEnded else { return }
            // Asked for afterwards, too.
            ended = counts
            isEnded = true
            for source in sources { source.cancel() }
            sources = []
            paths = [:]
        }

        func setConditions(_ toServer: DtlsLinkConditions, _ toClient: DtlsLinkConditions) {
            conditions = (toServer, toClient)
            for client in paths.keys {
                paths[client]?.toServer.conditions = toServer
                paths[client]?.toClient.conditions = toClient
            }
        }

        var counts: (toServer: DtlsLinkCounts, toClient: DtlsLinkCounts) {
            paths.values.reduce(into: ended) { sum, path in
                sum.0.add(path.toServer.counts)
                sum.1.add(path.toClient.counts)
            }
        }

        private func watch(_ socket: RelaySocket, _ read: @escaping @Sendable () -> Void) {
            let source = DispatchSource.makeReadSource(fileDescriptor: socket.descriptor, queue: queue)
            source.setEventHandler(handler: read)
            // Keeps the descriptor open for as long as the source looks at it.
            source.setCancelHandler { withExtendedLifetime(socket) {} }
            source.activate()
            sources.append(source)
        }

        private func readFront() {
            for _ in 0..<Self.datagramsPerWakeup {
                guard !isEnded, let (bytes, client) = front.receive() else { break }
                if paths[client] == nil { addPath(client) }
                paths[client]?.toServer.send(bytes, now: .now)
            }
            deliver()
        }

        private func readBack(_ client: DtlsAddress) {
            for _ in 0..<Self.datagramsPerWakeup {
                guard let (bytes, source) = paths[client]?.back.receive() else { break }
                if source == server { paths[client]?.toClient.send(bytes, now: .now) }
            }
            deliver()
        }

        private func addPath(_ client: DtlsAddress) {
            guard paths.count < Self.maximumPaths, let back = try? RelaySocket(isIPv6: server.isIPv6) else { return }
            let own = seed &+ UInt64(paths.count) &* 2
            paths[client] = Path(
                back: back,
                toServer: DtlsTestLink(conditions.toServer, seed: own),
                toClient: DtlsTestLink(conditions.toClient, seed: own &+ 1)
            )
            watch(back) { [weak self] in self?.readBack(client) }
        }

        /// Sends on what has arrived, and waits for the next arrival.
        private func deliver() {
            let now = ContinuousClock.now
            var next: ContinuousClock.Instant?
            for client in paths.keys {
                guard let due = paths[client]?.nextArrival else { continue }
                if due <= now, let back = paths[client]?.back {
                    while let bytes = paths[client]?.toServer.receive(now: now) { back.send(bytes, to: server) }
                    while let bytes = paths[client]?.toClient.receive(now: now) { front.send(bytes, to: client) }
                }
                guard let due = paths[client]?.nextArrival else { continue }
                next = next.map { Swift.min($0, due) } ?? due
            }
            guard let next, !isEnded else { return }
            let (seconds, attoseconds) = Swift.max(next - now, .zero).components
            let nanoseconds = seconds * 1_000_000_000 + attoseconds / 1_000_000_000
            timer.schedule(deadline: .now() + .nanoseconds(Int(nanoseconds)), leeway: .milliseconds(0))
        }
    }
}
