import CPosixUDP
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

    enum SendResult: Sendable, Equatable {
        /// The kernel took it.
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
        /// `to` is the address that the peer addressed, told by sockets that have several.
        case datagram(count: Int, from: DtlsAddress, to: DtlsAddress? = nil)
        case wouldBlock
        /// Nothing usable this time (a pending network error, a datagram longer than the buffer): try again.
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
        /// The most that waited in the backlog at once.
        var mostQueued = 0
    }

    /// Stands in for the kernel in tests.
    typealias SystemSend = @Sendable (UnsafeRawBufferPointer, DtlsAddress) -> SystemCall.Outcome
    typealias BacklogHandler = @Sendable () -> Void

    struct State {
        var backlog = DatagramBacklog()
        var counters = Counters()
        var backlogHandler: BacklogHandler?
        /// What the network reported and nobody has taken yet; see ``takeNetworkErrors()``.
        var networkErrors: [NetworkError] = []
        var errorHandler: BacklogHandler?
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

    let ownsDescriptor: Bool
    /// What the library has switched on, to be switched off when the descriptor is given back.
    let reports: [Report]
    let systemSend: SystemSend?
    /// Guards the backlog, closing, and each single send: as `close()` takes it too, no send can hit a descriptor that
    /// was closed and given to somebody else. With `MSG_DONTWAIT` a send does not wait, so nor does who wants the lock.
    let state = Lock(State())
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
        systemSend: SystemSend?
    ) {
        self.descriptor = descriptor
        self.readiness = readiness
        self.reports = reports
        self.ownsDescriptor = ownsDescriptor
        self.family = family
        self.reach = reach
        self.localAddress = localAddress
        self.connectedPeer = connectedPeer
        self.systemSend = systemSend
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

    /// Closes the socket; harmless when it is closed. What waits in the backlog is dropped.
    ///
    /// A loop calls this from the cancel handler of its last Dispatch source, so that neither a source nor `receive`
    /// uses the descriptor any more. The descriptor itself stays open when it is not owned.
    func close() {
        // The handler leaves the lock before it is released: with it may go an object that closes this socket.
        _ = state.withLock { state -> [BacklogHandler?] in
            guard !closed.exchange(true, ordering: .acquiringAndReleasing) else { return [] }
            state.counters.dropped += UInt64(state.backlog.removeAll())
            if readiness != descriptor { OwnedDescriptor.close(readiness) }
            if ownsDescriptor { OwnedDescriptor.close(descriptor) } else { stopReports() }
            defer {
                state.backlogHandler = nil
                state.errorHandler = nil
            }
            return [state.backlogHandler, state.errorHandler]
        }
    }
}

extension UDPSocket {
    /// Another descriptor of the same socket, the caller's to close.
    func duplicate() throws(DtlsError) -> Int32 {
        // Under the lock, so that it is not somebody else's descriptor by now.
        let copy = state.withLock { _ in isClosed ? -1 : dup(descriptor) }
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

// MARK: - Receiving, on the loop's queue

extension UDPSocket {
    /// Takes the next datagram out of the kernel; for the loop's queue only, the one on which the socket is closed.
    ///
    /// A datagram that does not fit into `buffer` is thrown away whole (`.retry`).
    func receive(into buffer: UnsafeMutableRawBufferPointer) -> ReceiveResult {
        guard !isClosed else { return .failed(EBADF) }
        var source = sockaddr_in6()  // the longer of the two forms
        var sourceLength: socklen_t = 0
        var local = CPosixUDP_Local()
        var flags: Int32 = 0
        let outcome = SystemCall.run {
            CPosixUDP_receive(
                descriptor,
                buffer.baseAddress,
                buffer.count,
                SystemCall.dontWait,
                &source,
                &sourceLength,
                &local,
                &flags
            )
        }
        switch outcome {
        case .wouldBlock: return .wouldBlock
        case .failed(let error):
            if Self.isFatal(error) { return .failed(error) }
            state.withLock { note(error, &$0) }
            return .retry
        case .value(let count):
            guard flags & SystemCall.truncated == 0 else { return .retry }
            let address = withUnsafeBytes(of: &source) { bytes in
                DtlsAddress(systemAddress: .init(rebasing: bytes.prefix(Int(sourceLength))))
            }
            guard let address else { return .retry }
            return .datagram(count: count, from: address, to: DtlsAddress(local, port: localAddress.port))
        }
    }

    /// Whether an error of `recvmsg` is the socket's own. All others are some earlier datagram's (an ICMP message came
    /// back) or pass (no memory); reading them has cleared them.
    private static func isFatal(_ error: Int32) -> Bool {
        switch error {
        case EBADF, ENOTSOCK, EINVAL, EFAULT, ENOTCONN: true
        default: false
        }
    }
}
