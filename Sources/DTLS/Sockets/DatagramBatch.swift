import CPosixUDP

/// What one read has taken out of a socket, and the memory that it is read into. For one queue.
///
/// A message is a datagram, or several of one peer that the kernel has put together (`UDP_GRO`); they come out one by
/// one in either case. Nothing is allocated but at the beginning.
final class DatagramBatch {
    /// No UDP payload is larger, and nothing that the kernel puts together.
    static let bufferSize = 65_536

    /// How many messages one read takes at most.
    let capacity: Int
    /// Whether one call into the system reads them all; found out by the first.
    var readsMany: Bool

    /// Where the datagram that ``next()`` gave came from.
    private(set) var source = DtlsAddress.anyIPv4
    /// The address that its peer addressed; nil when the socket has only one.
    private(set) var local: DtlsAddress?

    /// Whether messages come out by what they are (``ReadOrder``) instead of in the order in which they came.
    private let groupsHandshakes: Bool
    private var lone = LoneReads()
    private let localPort: UInt16
    private let pages: PageBuffer
    private let stride: Int
    private var count = 0
    private var order = ReadOrder()
    /// What is left of the message that was taken last. In `pages`, which live as long as this object.
    private var rest = UnsafeRawBufferPointer(start: nil, count: 0)
    private var segment = 0
    /// What came instead of one more message; the next read returns it.
    private var error: Int32?

    init(
        capacity: Int,
        localPort: UInt16,
        bufferSize: Int = DatagramBatch.bufferSize,
        readsMany: Bool = true,
        groupsHandshakes: Bool = false
    ) {
        self.localPort = localPort
        self.groupsHandshakes = groupsHandshakes
        self.capacity = min(max(capacity, 1), Int(CPosixUDP_maximumReads))
        self.readsMany = readsMany
        // Buffers that begin at the same place of their pages would push each other out of the processor's cache.
        stride = bufferSize + 5 * 64
        let headers = CPosixUDP_readsSize()
        pages = PageBuffer(byteCount: headers + stride * self.capacity)
        // `bytes` has room for the headers and `capacity` buffers, a stride each.
        let buffers = pages.bytes.baseAddress.map { $0 + headers }
        CPosixUDP_prepareReads(pages.bytes.baseAddress, buffers, stride, bufferSize, UInt32(self.capacity))
    }

    /// How many messages the last read has brought.
    var messageCount: Int { count }

    /// Whether nothing is left of what was read.
    var isEmpty: Bool { rest.isEmpty && order.isEmpty && error == nil }

    /// Takes the next datagram. Its bytes are valid until the next read.
    func next() -> UnsafeRawBufferPointer? {
        if !rest.isEmpty { return cut() }
        while let index = order.next() {
            var message = CPosixUDP_Incoming()
            CPosixUDP_takeRead(pages.bytes.baseAddress, UInt32(index), &message)
            // A datagram that is longer than the buffer is left out whole.
            guard message.isTruncated == 0, message.source.isKnown != 0 else { continue }
            source = DtlsAddress(message.source)
            local = DtlsAddress(message.local, port: localPort)
            let start = CPosixUDP_readsSize() + index * stride
            // The kernel has written so many bytes to the buffer of this index.
            let bytes = UnsafeRawBufferPointer(rebasing: pages.bytes[start..<start + Int(message.length)])
            guard message.segment > 0 else { return bytes }
            segment = Int(message.segment)
            rest = bytes
            return cut()
        }
        return nil
    }

    private func groupedOrder() -> ReadOrder {
        var order = ReadOrder()
        for index in 0..<count {
            let start = CPosixUDP_readsSize() + index * stride
            // Of a message that is shorter, it is what an earlier one has left here: good enough to be put in a group.
            let epoch = UInt16(pages.bytes[start + 3]) << 8 | UInt16(pages.bytes[start + 4])
            order.add(index, .init(pages.bytes[start], epoch: epoch, pages.bytes[start + Self.typeOffset]))
        }
        return order
    }

    /// Where the type of a handshake message stands in a datagram that begins with one (RFC 6347 §4.1, §4.2.2).
    private static let typeOffset = 13

    private func cut() -> UnsafeRawBufferPointer {
        let length = min(segment, rest.count)
        let datagram = UnsafeRawBufferPointer(rebasing: rest[..<length])
        rest = UnsafeRawBufferPointer(rebasing: rest[length...])
        return datagram
    }

    /// Reads from a descriptor. What ``next()`` has not given before is gone.
    ///
    /// - Returns: As many messages as there were, at most ``capacity``; fewer when there were no more.
    func read(from descriptor: Int32) -> SystemCall.Outcome {
        count = 0
        defer { order = groupsHandshakes && count > 1 ? groupedOrder() : ReadOrder(count) }
        rest = UnsafeRawBufferPointer(start: nil, count: 0)
        if let error {
            self.error = nil
            return .failed(error)
        }
        if readsMany {
            let asksForOne = lone.isLikely()
            let outcome = SystemCall.run {
                asksForOne
                    ? CPosixUDP_receiveOne(descriptor, pages.bytes.baseAddress, 0, SystemCall.dontWait)
                    : CPosixUDP_receiveMany(descriptor, pages.bytes.baseAddress, UInt32(capacity), SystemCall.dontWait)
            }
            guard case .value(let value) = outcome else {
                guard outcome == .failed(SystemCall.notThere) else { return outcome }
                readsMany = false
                return read(from: descriptor)
            }
            count = min(value, capacity)
            if !asksForOne { lone.found(count) }
            return .value(count)
        }
        while count < capacity {
            let outcome = SystemCall.run {
                CPosixUDP_receiveOne(descriptor, pages.bytes.baseAddress, UInt32(count), SystemCall.dontWait)
            }
            switch outcome {
            case .value:
                count += 1
            case .wouldBlock:
                return count == 0 ? .wouldBlock : .value(count)
            case .failed(let code):
                if count == 0 { return outcome }
                error = code
                return .value(count)
            }
        }
        return .value(count)
    }
}
