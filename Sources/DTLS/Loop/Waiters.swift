/// Tasks that wait for something, in the order in which they came.
///
/// It belongs inside a lock; continuations are resumed outside of it.
///
/// The continuations are unsafe ones, because a checked one allocates for each wait, and a connection's reader waits
/// for each datagram. What the check would find is seen to here: whoever is resumed has been taken out of this list,
/// which each continuation enters once, so that it is resumed once; and an owner that goes away empties its list.
struct Waiters<Value: Sendable>: Sendable {
    typealias ID = UInt32

    private struct Entry: Sendable {
        let continuation: UnsafeContinuation<Value, Never>
        let id: ID
    }

    // Most often there is one, who needs no memory of its own.
    private var first: Entry?
    private var others: [Entry] = []
    private var nextID: ID = 0

    var count: Int { first == nil ? 0 : 1 + others.count }
    var isEmpty: Bool { first == nil }

    mutating func makeID() -> ID {
        nextID &+= 1
        return nextID
    }

    mutating func add(_ id: ID, _ continuation: UnsafeContinuation<Value, Never>) {
        let entry = Entry(continuation: continuation, id: id)
        if first == nil { first = entry } else { others.append(entry) }
    }

    mutating func popFirst() -> UnsafeContinuation<Value, Never>? {
        guard let entry = first else { return nil }
        advance()
        return entry.continuation
    }

    private mutating func advance() {
        // An idle connection keeps no memory for those who have waited.
        first = others.isEmpty ? nil : others.removeFirst()
        if others.isEmpty { others = [] }
    }

    mutating func remove(_ id: ID) -> UnsafeContinuation<Value, Never>? {
        if let entry = first, entry.id == id {
            advance()
            return entry.continuation
        }
        guard let index = others.firstIndex(where: { $0.id == id }) else { return nil }
        return others.remove(at: index).continuation
    }

    mutating func removeAll() -> [UnsafeContinuation<Value, Never>] {
        guard let entry = first else { return [] }
        defer {
            first = nil
            others = []
        }
        return [entry.continuation] + others.map(\.continuation)
    }
}

/// Waits until `register` is given an answer, or the task is cancelled.
///
/// - Parameters:
///   - register: Called once. Returns the answer if it is known already, or keeps the continuation (under the lock that
///     `withdraw` takes). It must look at `Task.isCancelled` under that lock, because `withdraw` may have run before.
///   - withdraw: Called when the task is cancelled, on any thread. Takes the continuation back, if it is still kept,
///     and resumes it.
func waitInLine<Value: Sendable>(
    register: (UnsafeContinuation<Value, Never>) -> Value?,
    withdraw: @Sendable () -> Void
) async -> Value {
    await withTaskCancellationHandler {
        await withUnsafeContinuation { continuation in
            if let value = register(continuation) { continuation.resume(returning: value) }
        }
    } onCancel: {
        withdraw()
    }
}
