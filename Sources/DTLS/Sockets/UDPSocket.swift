import CPosixUDP
import DTLSPrimitives
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// One UDP socket: sends from any thread, receives on its loop's queue, and never blocks.
///
/// What the kernel has no room for waits in a bounded backlog that keeps the order; the loop flushes it when the socket
/// becomes writable (``setBacklogHandler(_:)``, ``flushBacklog()``).
final class UDPSocket: Sendable {
    /// What kind of `sockaddr` the socket takes.
    enum Family: Sendable { case ipv4, ipv6 }

    /// Which addresses the socket can exchange datagrams with.
    enum Reach: Sendable {
        case ipv4, ipv6, both

        func includes(_ address: DtlsAddress) -> Bool {
            switch self {
            case .ipv4: address.isIPv4
            case .ipv6: address.isIPv6
            case .both: true
            }
        }
    }

    /// What the system may be asked to do for many datagrams at once. Tests go without.
    struct Offload: Sendable {
        /// `recvmmsg`, `UDP_GRO`, `sendmmsg` and `UDP_SEGMENT`, in this order.
        var receivesMany = true
        var coalesces = true
        var sendsMany = true
        var segments = true

        static let none = Offload(receivesMany: false, coalesces: false, sendsMany: false, segments: false)
    }

    enum SendResult: Sendable, Equatable {
        /// The kernel took it, or will be asked at the end of the wake-up.
        case sent
        /// The kernel has no room; it waits in the backlog.
        case queued
        /// Nobody took it: the backlog is full, the interface's queue is full (`ENOBUFS`, `ENOMEM`), or the socket is
        /// closed. To the peer it is a datagram that was lost on its way, and so it is to the sender.
        case dropped
        /// The path does not carry a datagram of this size, but one of so many bytes, if the system knows.
        case tooLarge(maximum: Int?)
        /// The kernel refused this datagram with this `errno`. The socket goes on.
        case failed(Int32)
    }

    enum ReceiveResult: Sendable, Equatable {
        /// The batch may have datagrams.
        case datagrams
        case wouldBlock
        /// Nothing this time but a network error that was pending: try again.
        case retry
        /// The socket is dead, with this `errno`.
        case failed(Int32)
    }

    /// What became of datagrams that were not simply sent.
    struct Counters: Sendable, Equatable {
        var queued: UInt64 = 0
        var dropped: UInt64 = 0
        /// Of those dropped, the ones for which the system had no memory or the interface no room.
        var congested: UInt64 = 0
        var failed: UInt64 = 0
        /// Of those dropped and failed, the ones that were sent together, after `send` had answered.
        var gatheredDropped: UInt64 = 0
        var gatheredFailed: UInt64 = 0
        /// The most that waited in the backlog at once.
        var mostQueued = 0
    }

    /// Stands in for the kernel in tests.
    typealias SystemSend = @Sendable (UnsafeRawBufferPointer, DtlsAddress) -> SystemCall.Outcome
    typealias BacklogHandler = @Sendable () -> Void

    struct State: ~Copyable {
        /// Whether the descriptor is closed with the socket.
        var ownsDescriptor: Bool
        /// The error by which a call has told that others have closed the descriptor (`EBADF`, `ENOTSOCK`), if one has.
        var loss: Int32?
        /// What is to leave at the end of a wake-up. Empty while anything waits in the backlog.
        var arena = DatagramArena()
        /// Whether one call into the system sends many messages, and whether it takes a message apart (nil: not known
        /// yet). Given up at the first refusal.
        var sendsMany: Bool
        var segments: Bool?
        /// Messages in a row that were refused as ones that the kernel takes apart.
        var refusedSegments = 0
        var backlog = DatagramBacklog()
        var counters = Counters()
        var backlogHandler: BacklogHandler?
        /// What the network reported and nobody has taken yet; see ``takeNetworkErrors()``.
        var networkErrors: [NetworkError] = []
        var errorHandler: BacklogHandler?

        /// How much there is of what ``errorHandler`` is told.
        var news: Int { networkErrors.count + (loss == nil ? 0 : 1) }
    }

    /// For Dispatch sources that wait for room. Not the socket's any more once it is closed.
    let descriptor: Int32
    /// For Dispatch sources that wait for datagrams and errors. Lives as long as `descriptor` is the socket's.
    let readiness: Int32
    let family: Family
    let reach: Reach
    let localAddress: DtlsAddress
    /// The one peer of an adopted socket that was connected with `connect(2)`.
    let connectedPeer: DtlsAddress?

    /// What the library has switched on, to be switched off when the descriptor is given back.
    let reports: [Report]
    let systemSend: SystemSend?
    let offload: Offload
    /// The thread that gathers what it sends; 0 when none does. Only a thread itself writes its name here, and takes it
    /// away before it does anything else: who reads its own has written it, in whatever order the others see that.
    let gatherer = Atomic<UInt>(0)
    /// Whether the gatherer has gathered anything since it asked last to have it sent. Its own business, so that it
    /// need not lock where there is nothing.
    let hasGathered = Atomic(false)
    /// Guards the backlog, what is gathered, closing, and each single send: as `close()` takes it too, no send can hit
    /// a descriptor that was closed and given to somebody else. With `MSG_DONTWAIT` a send does not wait, so nor does
    /// who wants the lock.
    let state: Lock<State>
    /// Written under `state`'s lock; atomic so that `receive` can do without the lock.
    private let closed = Atomic(false)

    init(
        descriptor: Int32,
        readiness: Int32,
        reports: [Report],
        ownsDescriptor: Bool,
        family: Family,
        reach: Reach,
        localAddress: DtlsAddress,
        connectedPeer: DtlsAddress?,
        systemSend: SystemSend?,
        offload: Offload
    ) {
        self.descriptor = descriptor
        self.readiness = readiness
        self.reports = reports
        self.family = family
        self.reach = reach
        self.localAddress = localAddress
        self.connectedPeer = connectedPeer
        self.systemSend = systemSend
        self.offload = offload
        let segments: Bool? = offload.segments && offload.sendsMany ? nil : false
        state = Lock(State(ownsDescriptor: ownsDescriptor, sendsMany: offload.sendsMany, segments: segments))
    }

    deinit { close() }

    var isClosed: Bool { closed.load(ordering: .acquiring) }

    /// Whether a datagram sent now would go to the kernel rather than into the backlog.
    var hasRoom: Bool { state.withLock { $0.backlog.isEmpty } }

    var counters: Counters { state.withLock { $0.counters } }

    /// Sets what is called, outside the lock and on the sender's thread, each time the backlog stops being empty.
    ///
    /// Called at once when something waits already; a call may still come while the socket is being closed. Closing
    /// lets go of the handler.
    func setBacklogHandler(_ handler: @escaping BacklogHandler) {
        let (callNow, _) = state.withLock { state -> (Bool, BacklogHandler?) in
            guard !isClosed else { return (false, nil) }
            defer { state.backlogHandler = handler }
            return (!state.backlog.isEmpty, state.backlogHandler)
        }
        if callNow { handler() }
    }

    /// Closes the socket; harmless when it is closed. What was gathered is sent before, what waits in the backlog is
    /// dropped.
    ///
    /// A loop calls this from the cancel handler of its last Dispatch source, so that neither a source nor `receive`
    /// uses the descriptor any more. The descriptor itself stays open when it is not owned.
    func close() {
        // The handler leaves the lock before it is released: with it may go an object that closes this socket.
        _ = state.withLock { state -> [BacklogHandler?] in
            guard !isClosed else { return [] }
            sendGathered(&state)
            closed.store(true, ordering: .releasing)
            state.arena = DatagramArena()
            state.counters.dropped += UInt64(state.backlog.removeAll())
            if readiness != descriptor { OwnedDescriptor.close(readiness) }
            // One that others have closed may be of something else by now.
            if state.loss == nil {
                if state.ownsDescriptor { OwnedDescriptor.close(descriptor) } else { stopReports() }
            }
            defer {
                state.backlogHandler = nil
                state.errorHandler = nil
            }
            return [state.backlogHandler, state.errorHandler]
        }
    }
}

extension UDPSocket {
    /// Has the descriptor closed with the socket.
    func takeOwnership() { state.withLock { $0.ownsDescriptor = true } }

    /// Whether the descriptor is this socket's: it is not closed, by nobody.
    func isUsable(_ state: borrowing State) -> Bool { !isClosed && state.loss == nil }

    /// The error by which a call has told that others have closed the descriptor, if one has.
    var loss: Int32? { state.withLock { $0.loss } }

    /// Another descriptor of the same socket, the caller's to close.
    func duplicate() throws(DtlsError) -> Int32 {
        // Under the lock, so that it is not somebody else's descriptor by now.
        let copy = state.withLock { isUsable($0) ? dup(descriptor) : -1 }
        guard copy >= 0 else {
            throw DtlsError(
                .socketFailed,
                phase: .established,
                "the socket cannot be handed over: \(isClosed ? "it was closed" : SystemCall.description(of: errno))"
            )
        }
        return copy
    }
}
