/// Tasks that wait for something, in the order in which they came.
///
/// It belongs inside a lock; continuations are resumed outside of it.
struct Waiters<Value: Sendable>: Sendable {
    typealias ID = UInt64

    private var entries: [(id: ID, continuation: CheckedContinuation<Value, Never>)] = []
    private var nextID: ID = 0

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    mutating func makeID() -> ID {
        nextID += 1
        return nextID
    }

    mutating func add(_ id: ID, _ continuation: CheckedContinuation<Value, Never>) {
        entries.append((id, continuation))
    }

    mutating func popFirst() -> CheckedContinuation<Value, Never>? {
        guard entries.count != 1 else {
            // An idle connection keeps no memory for those who have waited.
            defer { entries = [] }
            return entries.first?.continuation
        }
        return entries.isEmpty ? nil : entries.removeFirst().continuation
    }

    mutating func remove(_ id: ID) -> CheckedContinuation<Value, Never>? {
        guard let index = entries.firstIndex(where: { $0.id == id }) else { return nil }
        return entries.remove(at: index).continuation
    }

    mutating func removeAll() -> [CheckedContinuation<Value, Never>] {
        defer { entries = [] }
        return entries.map(\.continuation)
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
    register: (CheckedContinuation<Value, Never>) -> Value?,
    withdraw: @escaping @Sendable () -> Void
) async -> Value {
    await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
            if let value = register(continuation) { continuation.resume(returning: value) }
        }
    } onCancel: {
        withdraw()
    }
}
