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
        /// Nobody took it: the backlog is full, or the socket is closed.
        case dropped
        /// The kernel refused this datagram with this `errno`. The socket goes on.
        case failed(Int32)
    }

    enum ReceiveResult: Sendable, Equatable {
        case datagram(count: Int, from: DtlsAddress)
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
        var failed: UInt64 = 0
        /// The most that waited in the backlog at once.
        var mostQueued = 0
    }

    /// Stands in for the kernel in tests.
    typealias SystemSend = @Sendable (UnsafeRawBufferPointer, DtlsAddress) -> SystemCall.Outcome
    typealias BacklogHandler = @Sendable () -> Void

    private struct State {
        var backlog = DatagramBacklog()
        var counters = Counters()
        var backlogHandler: BacklogHandler?
    }

    /// For Dispatch sources. Not the socket's any more once it is closed.
    let descriptor: Int32
    let family: Family
    let reach: Reach
    let localAddress: DtlsAddress
    /// The one peer of an adopted socket that was connected with `connect(2)`.
    let connectedPeer: DtlsAddress?

    private let ownsDescriptor: Bool
    private let systemSend: SystemSend?
    /// Guards the backlog, closing, and each single send: as `close()` takes it too, no send can hit a descriptor that
    /// was closed and given to somebody else. With `MSG_DONTWAIT` a send does not wait, so nor does who wants the lock.
    private let state = Lock(State())
    /// Written under `state`'s lock; atomic so that `receive` can do without the lock.
    private let closed = Atomic(false)

    init(
        descriptor: Int32,
        ownsDescriptor: Bool,
        family: Family,
        reach: Reach,
        localAddress: DtlsAddress,
        connectedPeer: DtlsAddress?,
        systemSend: SystemSend?
    ) {
        self.descriptor = descriptor
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
        _ = state.withLock { state -> BacklogHandler? in
            guard !closed.exchange(true, ordering: .acquiringAndReleasing) else { return nil }
            state.counters.dropped += UInt64(state.backlog.removeAll())
            if ownsDescriptor { OwnedDescriptor.close(descriptor) }
            defer { state.backlogHandler = nil }
            return state.backlogHandler
        }
    }
}

// MARK: - Sending, from any thread

extension UDPSocket {
    /// Sends a datagram, or lets it wait its turn. Never waits itself.
    func send(_ bytes: UnsafeRawBufferPointer, to address: DtlsAddress) -> SendResult {
        let (result, backlogHandler) = state.withLock { state -> (SendResult, BacklogHandler?) in
            guard !isClosed else {
                state.counters.dropped += 1
                return (.dropped, nil)
            }
            let wasEmpty = state.backlog.isEmpty
            if wasEmpty {
                switch transmit(bytes, to: address) {
                case .value:
                    return (.sent, nil)
                case .failed(let error):
                    state.counters.failed += 1
                    return (.failed(error), nil)
                case .wouldBlock:
                    break
                }
            }
            guard state.backlog.append(bytes, to: address) else {
                state.counters.dropped += 1
                return (.dropped, nil)
            }
            state.counters.queued += 1
            state.counters.mostQueued = max(state.counters.mostQueued, state.backlog.count)
            return (.queued, wasEmpty ? state.backlogHandler : nil)
        }
        backlogHandler?()
        return result
    }

    /// Sends what waits, as far as the kernel takes it; for the loop, when the socket is writable.
    ///
    /// - Returns: Whether the backlog is empty now, so that writable events are of no more interest.
    func flushBacklog() -> Bool {
        // One lock a datagram, so that a sender elsewhere waits for one send at most. Bounded, as senders may go on.
        for _ in 0..<DatagramBacklog.maximumCount {
            switch flushOldest() {
            case .sent: continue
            case .nothingWaits: return true
            case .noRoom: return false
            }
        }
        return hasRoom
    }

    private enum FlushStep { case sent, nothingWaits, noRoom }

    private func flushOldest() -> FlushStep {
        state.withLock { state in
            guard let oldest = state.backlog.first else { return .nothingWaits }
            switch oldest.bytes.withUnsafeBytes({ transmit($0, to: oldest.address) }) {
            case .wouldBlock: return .noRoom
            case .failed: state.counters.failed += 1
            case .value: break
            }
            state.backlog.removeFirst()
            return state.backlog.isEmpty ? .nothingWaits : .sent
        }
    }

    /// Hands one datagram to the kernel. Called with `state`'s lock held, and not on a closed socket.
    private func transmit(_ bytes: UnsafeRawBufferPointer, to address: DtlsAddress) -> SystemCall.Outcome {
        if let systemSend { return systemSend(bytes, address) }
        guard let connectedPeer else {
            let outcome = address.withSystemAddress(family) { pointer, length in
                SystemCall.run {
                    sendto(descriptor, bytes.baseAddress, bytes.count, SystemCall.sendFlags, pointer, length)
                }
            }
            return outcome ?? .failed(EAFNOSUPPORT)
        }
        guard address == connectedPeer else { return .failed(EISCONN) }
        let outcome = sendToConnectedPeer(bytes)
        // A connected socket reports here, once, that an *earlier* datagram was refused, and sends nothing.
        return outcome == .failed(ECONNREFUSED) ? sendToConnectedPeer(bytes) : outcome
    }

    private func sendToConnectedPeer(_ bytes: UnsafeRawBufferPointer) -> SystemCall.Outcome {
        SystemCall.run { sendto(descriptor, bytes.baseAddress, bytes.count, SystemCall.sendFlags, nil, 0) }
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
        return withUnsafeMutableBytes(of: &source) { source in
            var vector = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
            return withUnsafeMutablePointer(to: &vector) { vector in
                var message = msghdr()
                message.msg_name = source.baseAddress
                message.msg_namelen = socklen_t(source.count)
                message.msg_iov = vector
                message.msg_iovlen = 1
                switch SystemCall.run({ recvmsg(descriptor, &message, SystemCall.dontWait) }) {
                case .wouldBlock: return .wouldBlock
                case .failed(let error): return Self.isFatal(error) ? .failed(error) : .retry
                case .value(let count):
                    guard message.msg_flags & SystemCall.truncated == 0 else { return .retry }
                    let written = UnsafeRawBufferPointer(source).prefix(Int(message.msg_namelen))
                    guard let address = DtlsAddress(systemAddress: .init(rebasing: written)) else { return .retry }
                    return .datagram(count: count, from: address)
                }
            }
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
