import DTLSPrimitives

/// Empty datagram queues with memory, for those of many associations that have something at the moment.
///
/// An association that is idle keeps none; one that is busy finds some without asking the system.
final class QueuePool: Sendable {
    private static let maximumCount = 32

    private let idle = Lock<[DatagramQueue]>([])

    /// Gives a queue memory, if it has none.
    func equip(_ queue: inout DatagramQueue) {
        guard !queue.hasStorage, let other = idle.withLock({ $0.popLast() }) else { return }
        queue = other
    }

    /// Takes the memory of a queue that is empty.
    func strip(_ queue: inout DatagramQueue) {
        guard queue.isEmpty, queue.hasStorage else { return }
        let other = queue
        // Before it is anybody else's: two that shared it would copy it.
        queue = DatagramQueue()
        idle.withLock { if $0.count < Self.maximumCount { $0.append(other) } }
    }
}
