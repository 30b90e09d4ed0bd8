import DTLSPrimitives
import Dispatch

/// The queues that clients' own queues are set upon: as many clients as those run at once, however many are busy, where
/// each would have a thread of its own. Not on a global queue, which may have no thread for them while Swift's tasks
/// block.
enum ClientLanes {
    static let count = 32

    private static let queues = (0..<count).map { DispatchQueue(label: "swift-dtls.clients.\($0)") }
    /// How many clients each has.
    private static let loads = Lock([Int](repeating: 0, count: count))

    /// A place on the queue that has the fewest, for as long as it is held: up to ``count`` clients share with nobody.
    final class Lane: Sendable {
        private let index: Int

        init() {
            index = loads.withLock { loads in
                let index = loads.indices.min { loads[$0] < loads[$1] } ?? 0
                loads[index] += 1
                return index
            }
        }

        deinit { loads.withLock { $0[index] -= 1 } }

        var queue: DispatchQueue { queues[index] }
    }
}
