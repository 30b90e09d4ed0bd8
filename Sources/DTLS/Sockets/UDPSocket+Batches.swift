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

// Many datagrams at once: what a loop reads, and what it sends while it is awake.

// MARK: - Receiving, on the loop's queue

extension UDPSocket {
    /// Takes datagrams out of the kernel; for the loop's queue only, the one on which the socket is closed.
    ///
    /// A datagram that does not fit into its buffer is thrown away whole.
    func receive(into batch: DatagramBatch) -> ReceiveResult {
        guard !isClosed else { return .failed(EBADF) }
        switch batch.read(from: descriptor) {
        case .wouldBlock: return .wouldBlock
        case .value: return .datagrams
        case .failed(let error):
            if Self.isFatal(error) {
                state.withLock { noteLoss(error, &$0) }
                return .failed(error)
            }
            state.withLock { note(error, &$0) }
            return .retry
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

// MARK: - Sending, on the loop's thread

extension UDPSocket {
    /// Whether what this thread sends is gathered.
    var isGathering: Bool { gatherer.load(ordering: .relaxed) == Self.thisThread }

    /// From here to ``endGathering()`` what this thread sends leaves together. Not to be nested, and not on two threads
    /// at once.
    func beginGathering() { gatherer.store(Self.thisThread, ordering: .relaxed) }

    /// Sends what was gathered so far; for the one who gathers.
    func sendGathered() {
        guard hasGathered.load(ordering: .relaxed) else { return }
        hasGathered.store(false, ordering: .relaxed)
        tellingNews { state in
            if !isClosed { sendGathered(&state) }
        }
    }

    /// Ends what began on this thread. What was gathered and not sent waits for who sends next.
    func endGathering() { gatherer.store(0, ordering: .relaxed) }

    static var thisThread: UInt {
        // An integer in glibc, a pointer elsewhere.
        #if canImport(Glibc)
            UInt(pthread_self())
        #else
            UInt(bitPattern: pthread_self())
        #endif
    }

    /// Copies a datagram to those that leave later; false when it must be tried at once, or wait behind others.
    func gather(
        _ bytes: UnsafeRawBufferPointer,
        to address: DtlsAddress,
        from local: DtlsAddress?,
        _ state: inout State
    ) -> Bool {
        guard let room = roomToGather(bytes.count, to: address, &state) else { return false }
        room.copyMemory(from: bytes)
        state.arena.add(bytes.count, to: address, from: local, joins: state.segments == true)
        return true
    }

    /// Where a datagram of up to `count` bytes goes that leaves later; nil when it must be tried at once, or wait
    /// behind others.
    func roomToGather(_ count: Int, to address: DtlsAddress, _ state: inout State) -> UnsafeMutableRawBufferPointer? {
        // What the system would refuse is refused at once.
        guard state.backlog.isEmpty, reach.includes(address), address == connectedPeer ?? address else { return nil }
        if state.segments == nil { findSegmentation(&state) }
        hasGathered.store(true, ordering: .relaxed)
        if let room = state.arena.room(for: count) { return room }
        sendGathered(&state)
        return state.backlog.isEmpty ? state.arena.room(for: count) : nil
    }

    /// Whether the kernel knows of `UDP_SEGMENT`. One that does not would take a message to be a single datagram.
    private func findSegmentation(_ state: inout State) {
        #if os(Linux)
            let outcome = SystemCall.option(descriptor, SystemCall.udp, CPosixUDP_UDP_SEGMENT)
            if case .value = outcome { state.segments = true } else { state.segments = false }
        #else
            state.segments = false
        #endif
    }

    /// Hands to the kernel what was gathered. What it has no room for waits in the backlog, in order. Called with
    /// `state`'s lock held, and not on a closed socket.
    func sendGathered(_ state: inout State) {
        guard !state.arena.isEmpty else { return }
        defer { state.arena.removeAll() }
        // The descriptor may be of something else by now.
        guard state.loss == nil else { return }
        var next = 0
        while next < state.arena.messageCount {
            let outcome = sendMany(from: next, &state)
            if case .value(let count)? = outcome, count > 0 {
                next += count
            } else {
                guard send(next, after: outcome, &state) else { return }
                next += 1
            }
        }
    }

    /// Sends messages by one call. Nil where there is no such call, otherwise how many it has sent, or what came of the
    /// first.
    private func sendMany(from index: Int, _ state: inout State) -> SystemCall.Outcome? {
        guard state.sendsMany, let messages = state.arena.messages, let bytes = state.arena.bytes else { return nil }
        if let systemSend {
            // As a kernel does it that takes nothing apart.
            for sent in index..<state.arena.messageCount {
                let message = messages[sent]
                let outcome =
                    message.datagrams > 1
                    ? .failed(EIO) : systemSend(self.bytes(of: message, from: 0, &state), DtlsAddress(message.peer))
                if case .value = outcome { continue }
                return sent == index ? outcome : .value(sent - index)
            }
            return .value(state.arena.messageCount - index)
        }
        let count = UInt32(state.arena.messageCount - index)
        let domain = connectedPeer != nil ? AF_UNSPEC : family == .ipv4 ? AF_INET : AF_INET6
        // `count` messages are there from `index` on, and their bytes are in the arena, which stays as it is meanwhile.
        let outcome = SystemCall.run {
            CPosixUDP_sendMany(descriptor, domain, bytes, messages + index, count, SystemCall.sendFlags)
        }
        if case .value(let sent) = outcome, sent > 0, messages[index].datagrams > 1 { state.refusedSegments = 0 }
        guard outcome == .failed(ENOSYS) else { return outcome }
        state.sendsMany = false
        state.segments = false
        return nil
    }

    /// Sends the datagrams of one message each on its own, as they would have been without being gathered.
    ///
    /// - Parameter outcome: What came of the message.
    /// - Returns: False when the kernel has no room: then this and all that follows is in the backlog.
    private func send(_ index: Int, after outcome: SystemCall.Outcome?, _ state: inout State) -> Bool {
        guard outcome != .wouldBlock else {
            postpone(from: index, 0, &state)
            return false
        }
        guard let message = state.arena.messages?[index] else { return true }
        let peer = DtlsAddress(message.peer)
        let local = DtlsAddress(message.local, port: localAddress.port)
        var position = 0
        for datagram in 0..<Int(message.datagrams) {
            let bytes = self.bytes(of: message, from: position, &state)
            let result: SystemCall.Outcome
            if message.datagrams == 1, let outcome {
                result = insist(on: outcome, bytes, to: peer, from: local, &state)
            } else {
                result = transmit(bytes, to: peer, from: local, &state)
            }
            switch result {
            case .value:
                // What was refused was that they were one message.
                if datagram == 0, message.datagrams > 1 { noteRefusedSegments(outcome, &state) }
            case .failed(let error):
                report(error, bytes.count, to: peer, &state)
            case .wouldBlock:
                postpone(from: index, position, &state)
                return false
            }
            position += bytes.count
        }
        return true
    }

    /// Takes note of a message that was refused as one, although its datagrams are not.
    private func noteRefusedSegments(_ outcome: SystemCall.Outcome?, _ state: inout State) {
        guard Self.meansNoSegmentation(outcome) else { return }
        state.refusedSegments += 1
        // One peer's path must not decide for all: EINVAL may be that a segment is larger than it carries.
        if outcome != .failed(EINVAL) || state.refusedSegments >= Self.refusalsInARow { state.segments = false }
    }

    /// How many messages in a row may be refused before it is the kernel, or the interface.
    private static let refusalsInARow = 64

    /// Whether an outcome may be that of a kernel, or a network interface, that does not take messages apart. A segment
    /// that is larger than the path's MTU (`EMSGSIZE`, `EINVAL`) is none, but common enough to be refused always.
    private static func meansNoSegmentation(_ outcome: SystemCall.Outcome?) -> Bool {
        switch outcome {
        case .failed(EIO), .failed(EINVAL), .failed(ENOPROTOOPT), .failed(EOPNOTSUPP): true
        default: false
        }
    }

    /// What a failure means, for a sender who has gone on and learns of it by the network's reports.
    private func report(_ error: Int32, _ count: Int, to peer: DtlsAddress, _ state: inout State) {
        let result = failed(error, count, to: peer, &state)
        switch result {
        case .dropped:
            state.counters.gatheredDropped += 1
            return
        case .tooLarge(let maximum):
            let largest = Association.nextSmaller(than: count, maximum: maximum)
            state.add(NetworkError(peer: peer, code: error, isLocal: true, largestDatagram: largest))
        case .failed, .sent, .queued:
            // A refusal is an earlier datagram's, and has been reported.
            guard error != ECONNREFUSED else { break }
            state.add(NetworkError(peer: peer, code: error, isLocal: true, largestDatagram: nil))
        }
        state.counters.gatheredFailed += 1
    }

    /// Has everything wait that was gathered, from a place in a message on.
    private func postpone(from first: Int, _ start: Int, _ state: inout State) {
        var start = start
        for index in first..<state.arena.messageCount {
            guard let message = state.arena.messages?[index] else { return }
            let peer = DtlsAddress(message.peer)
            let local = DtlsAddress(message.local, port: localAddress.port)
            var position = start
            start = 0
            // Once even for an empty datagram.
            repeat {
                let bytes = self.bytes(of: message, from: position, &state)
                _ = postpone(bytes, to: peer, from: local, &state)
                position += bytes.count
            } while position < message.length
        }
    }

    /// The datagram of a message that begins at a position. Valid until the arena is written to.
    private func bytes(
        of message: CPosixUDP_Outgoing,
        from position: Int,
        _ state: inout State
    ) -> UnsafeRawBufferPointer {
        let count = min(Int(message.segment), Int(message.length) - position)
        let start = state.arena.bytes.map { $0 + Int(message.offset) + position }
        return UnsafeRawBufferPointer(start: start, count: count)
    }
}
