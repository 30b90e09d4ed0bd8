import DequeModule

/// Payloads that came and those who wait for them. It belongs inside an association's lock.
struct Inbox: Sendable {
    /// What a reader gets.
    enum Reading: Sendable {
        case payload([UInt8])
        case end
        case failed(DtlsError)
        case cancelled

        /// What the sequence gives its reader for it; `nil` at the end.
        func get() throws(DtlsError) -> [UInt8]? {
            switch self {
            case .payload(let payload): return payload
            case .end: return nil
            case .failed(let error): throw error
            case .cancelled:
                let message = "the task was cancelled while it waited for a datagram"
                throw DtlsError(.cancelled, phase: .established, message)
            }
        }
    }

    /// A reader and what it gets, to be carried out after the lock is released.
    struct Delivery: Sendable {
        let reader: UnsafeContinuation<Reading, Never>
        let reading: Reading

        func carryOut() { reader.resume(returning: reading) }
    }

    /// What nobody has read yet is kept up to these; what comes beyond is dropped and counted, as UDP would.
    let limits: DtlsQueueLimits

    init(limits: DtlsQueueLimits) {
        self.limits = limits
    }

    var readers = Waiters<Reading>()
    private(set) var dropped = 0
    /// The most payloads that have waited at once.
    private(set) var highWater = 0
    private var payloads = Deque<[UInt8]>()
    private var bytes = 0
    private var ending: Reading?

    /// Adds a payload: to the reader who has waited longest, or to the queue.
    ///
    /// - Parameter passesReaders: Whether it goes to the queue in any case.
    mutating func add(_ payload: UnsafeRawBufferPointer, passesReaders: Bool = false) -> Delivery? {
        if !passesReaders, let reader = readers.popFirst() {
            return Delivery(reader: reader, reading: .payload(Array(payload)))
        }
        guard payloads.count < limits.datagrams, bytes + payload.count <= limits.bytes else {
            dropped += 1
            return nil
        }
        bytes += payload.count
        payloads.append(Array(payload))
        highWater = Swift.max(highWater, payloads.count)
        return nil
    }

    /// Takes the oldest payload, or the end behind the last one; `nil` when there is nothing yet.
    mutating func take() -> Reading? {
        takePayload().map { .payload($0) } ?? ending
    }

    /// Takes the oldest payload, if there is one.
    mutating func takePayload() -> [UInt8]? {
        guard let payload = payloads.popFirst() else { return nil }
        bytes -= payload.count
        return payload
    }

    var isEmpty: Bool { payloads.isEmpty }

    /// Whether half of what may wait does, or would with another payload of so many bytes.
    func isFilling(with count: Int) -> Bool {
        payloads.count >= limits.datagrams / 2 || bytes + count > limits.bytes / 2
    }

    /// Takes everything that nobody has read.
    mutating func takeAll() -> [[UInt8]] {
        defer {
            payloads = []
            bytes = 0
        }
        // Made of no elements, an array writes the count of them to where all empty arrays have it, which the thread
        // sanitizer takes for a race (seen with swift-collections 1.6).
        return payloads.isEmpty ? [] : Array(payloads)
    }

    /// Ends the sequence for every reader. What came before can still be read, unless this side closed.
    mutating func finish(_ reason: DtlsCloseReason) -> [Delivery] {
        let reading: Reading
        switch reason {
        case .failed(let error): reading = .failed(error)
        case .closedLocally, .closedByPeer, .replacedByPeer, .idle, .evicted, .handedOver: reading = .end
        }
        ending = reading
        if reason == .closedLocally {
            payloads = []
            bytes = 0
        }
        return readers.removeAll().map { Delivery(reader: $0, reading: reading) }
    }
}
