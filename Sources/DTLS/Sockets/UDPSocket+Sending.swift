import CPosixUDP
import DTLSPrimitives

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

// Sending, from any thread.

extension UDPSocket {
    /// Sends a datagram, or lets it wait its turn. Never waits itself.
    ///
    /// - Parameter local: The address of this machine that it is to leave from; nil, and one that the machine does not
    ///   have any more, leave that to the system.
    func send(
        _ bytes: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress? = nil
    ) -> SendResult {
        let isGathered = isGathering
        return tellingNews { state in
            guard isUsable(state) else {
                state.counters.dropped += 1
                return .dropped
            }
            if isGathered, gather(bytes, to: address, from: local, &state) { return .sent }
            // It must not overtake what was gathered, on whatever thread.
            sendGathered(&state)
            if state.backlog.isEmpty {
                switch transmit(bytes, to: address, from: local, &state) {
                case .value: return .sent
                case .failed(let error): return failed(error, bytes.count, to: address, &state)
                case .wouldBlock: break
                }
            }
            return postpone(bytes, to: address, from: local, &state) ? .queued : .dropped
        }
    }

    /// What came of a datagram that was to be sealed first.
    enum SealedSend: Sendable {
        /// Others wait already, and nothing was sealed.
        case noRoom
        /// Nothing was sealed.
        case unsealed
        case done(SendResult, count: Int)
    }

    /// As ``send(_:to:from:)``, for a datagram that is written where it leaves from.
    ///
    /// - Parameters:
    ///   - maximum: How many bytes it may have.
    ///   - seal: Writes it to the beginning of such a buffer and returns how many bytes it has, or nil, and then
    ///     nothing is sent. Called at most once, with the socket's lock held.
    func send(
        upTo maximum: Int,
        to address: DtlsAddress,
        from local: DtlsAddress?,
        sealing seal: (UnsafeMutableRawBufferPointer) -> Int?
    ) -> SealedSend {
        let isGathered = isGathering
        return tellingNews { state in
            guard isUsable(state) else { return .unsealed }
            guard state.backlog.isEmpty else { return .noRoom }
            if isGathered, let room = roomToGather(maximum, to: address, &state) {
                guard let count = seal(room) else { return .unsealed }
                state.arena.add(count, to: address, from: local, joins: state.segments == true)
                return .done(.sent, count: count)
            }
            // It must not overtake what was gathered, on whatever thread.
            sendGathered(&state)
            guard state.backlog.isEmpty else { return .noRoom }
            guard let room = state.arena.room(for: maximum), let count = seal(room) else { return .unsealed }
            let bytes = UnsafeRawBufferPointer(rebasing: room[..<count])
            switch transmit(bytes, to: address, from: local, &state) {
            case .value:
                return .done(.sent, count: count)
            case .failed(let error):
                return .done(failed(error, count, to: address, &state), count: count)
            case .wouldBlock:
                return .done(postpone(bytes, to: address, from: local, &state) ? .queued : .dropped, count: count)
            }
        }
    }

    /// Has a datagram wait in the backlog; false when there is no room left for it. Counted.
    func postpone(
        _ bytes: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress?,
        _ state: inout State
    ) -> Bool {
        guard state.backlog.append(bytes, to: address, from: local) else {
            state.counters.dropped += 1
            return false
        }
        state.counters.queued += 1
        state.counters.mostQueued = max(state.counters.mostQueued, state.backlog.count)
        return true
    }

    /// Calls `body` with the lock held, and then, without it, who is to know what it has brought about: reports of the
    /// network and the loss of the descriptor, which nothing else may wake their reader for, and a backlog that has
    /// stopped being empty.
    func tellingNews<Result: Sendable>(_ body: (inout State) -> Result) -> Result {
        let (result, errorHandler, backlogHandler) = state.withLock { state in
            let known = state.news
            let wasEmpty = state.backlog.isEmpty
            let result = body(&state)
            return (
                result,
                state.news > known ? state.errorHandler : nil,
                wasEmpty && !state.backlog.isEmpty ? state.backlogHandler : nil
            )
        }
        errorHandler?()
        backlogHandler?()
        return result
    }

    /// Sends what waits, as far as the kernel takes it; for the loop, when the socket is writable.
    ///
    /// - Returns: Whether the backlog is empty now, so that writable events are of no more interest.
    func flushBacklog() -> Bool {
        // One lock a datagram, so that a sender elsewhere waits for one send at most. Bounded, as senders may go on.
        for _ in 0..<DatagramBacklog.maximumCount {
            let (step, handler) = flushOldest()
            handler?()
            switch step {
            case .sent: continue
            case .nothingWaits: return true
            case .noRoom: return false
            }
        }
        return hasRoom
    }

    private enum FlushStep { case sent, nothingWaits, noRoom }

    private func flushOldest() -> (FlushStep, BacklogHandler?) {
        state.withLock { state in
            guard let oldest = state.backlog.first, isUsable(state) else { return (.nothingWaits, nil) }
            let known = state.news
            let outcome = oldest.bytes.withUnsafeBytes {
                transmit($0, to: oldest.address, from: oldest.local, &state)
            }
            switch outcome {
            case .wouldBlock: return (.noRoom, state.news > known ? state.errorHandler : nil)
            case .failed(let error):
                let result = failed(error, oldest.bytes.count, to: oldest.address, &state)
                // Who sent it is not waiting any more, and learns the size by the way of the network's reports.
                if case .tooLarge(let maximum) = result {
                    let largest = min(maximum ?? .max, oldest.bytes.count - 1)
                    state.add(NetworkError(peer: oldest.address, code: error, isLocal: true, largestDatagram: largest))
                }
            case .value: break
            }
            state.backlog.removeFirst()
            let news = state.news > known ? state.errorHandler : nil
            return (state.backlog.isEmpty ? .nothingWaits : .sent, news)
        }
    }

    /// What a failure means, counted.
    func failed(_ error: Int32, _ count: Int, to address: DtlsAddress, _ state: inout State) -> SendResult {
        switch error {
        case ENOBUFS, ENOMEM:
            // The interface's queue is full, or the kernel short of memory, for a moment. The socket stays writable, so
            // there is no event to wait for, and a retransmission or the application's own pace is what helps.
            state.counters.dropped += 1
            state.counters.congested += 1
            return .dropped
        case EMSGSIZE:
            state.counters.failed += 1
            let report = state.networkErrors.last { $0.isLocal && $0.code == EMSGSIZE && $0.concerns(address) }
            return .tooLarge(maximum: report?.largestDatagram)
        default:
            noteLoss(error, &state)
            state.counters.failed += 1
            return .failed(error)
        }
    }

    /// Takes note of an error that says that others have closed the descriptor.
    func noteLoss(_ error: Int32, _ state: inout State) {
        // What stands in for the kernel knows nothing of it.
        guard error == EBADF || error == ENOTSOCK, systemSend == nil else { return }
        #if canImport(Darwin)
            // A socket that the system has taken away from a suspended app says so, too, and is still there.
            if error == EBADF, fcntl(descriptor, F_GETFD) != -1 { return }
        #endif
        state.loss = error
    }

    /// Hands one datagram to the kernel. Called with `state`'s lock held, and not on a closed socket.
    ///
    /// A socket tells here, once, that an *earlier* datagram was refused, perhaps one to another peer, and sends
    /// nothing. So what may be such news is read, and the datagram sent again. An error that stays is the datagram's
    /// own.
    func transmit(
        _ bytes: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress?,
        _ state: inout State
    ) -> SystemCall.Outcome {
        insist(on: transmitOnce(bytes, to: address, from: local), bytes, to: address, from: local, &state)
    }

    /// As ``transmit(_:to:from:_:)``, when a datagram was handed to the kernel already and this has come of it.
    func insist(
        on outcome: SystemCall.Outcome,
        _ bytes: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress?,
        _ state: inout State
    ) -> SystemCall.Outcome {
        var outcome = outcome
        var local = local
        var attempts = 0
        while case .failed(let error) = outcome, attempts < 3 {
            if local != nil, Self.meansNoSuchSource(error) {
                // The address is gone from this machine (a lease that ended, an interface that was unplugged). The peer
                // may not know the new one, but this is the best that can be done.
                local = nil
            } else if NetworkError.isReported(error) {
                collectNetworkErrors(&state)
                note(error, &state)
                // Linux says ENETUNREACH of such an address, too.
                if attempts == 2, error == ENETUNREACH || error == EHOSTUNREACH { local = nil }
            } else {
                break
            }
            attempts += 1
            outcome = transmitOnce(bytes, to: address, from: local)
        }
        if outcome == .failed(EMSGSIZE) { collectNetworkErrors(&state) }
        return outcome
    }

    private func transmitOnce(
        _ bytes: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress?
    ) -> SystemCall.Outcome {
        if let systemSend { return systemSend(bytes, address) }
        guard let connectedPeer else {
            var source = CPosixUDP_Local(local)
            let outcome = address.withSystemAddress(family) { pointer, length in
                SystemCall.run {
                    CPosixUDP_send(
                        descriptor,
                        bytes.baseAddress,
                        bytes.count,
                        SystemCall.sendFlags,
                        pointer,
                        length,
                        &source
                    )
                }
            }
            return outcome ?? .failed(EAFNOSUPPORT)
        }
        guard address == connectedPeer else { return .failed(EISCONN) }
        return SystemCall.run {
            sendto(descriptor, bytes.baseAddress, bytes.count, SystemCall.sendFlags, nil, 0)
        }
    }

    private static func meansNoSuchSource(_ error: Int32) -> Bool {
        switch error {
        case EINVAL, EADDRNOTAVAIL, ENODEV, ENXIO: true
        default: false
        }
    }
}
