#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A value behind a mutex.
///
/// A pthread mutex rather than `Synchronization.Mutex`, because ThreadSanitizer does not see the happens-before of the
/// latter's contended path on Linux and reports races where there are none; with this one its reports are true.
///
/// `@unchecked Sendable`: `state` is touched only while `mutex` is held.
package final class Lock<State: ~Copyable>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private var state: State

    package init(_ state: consuming sending State) {
        self.state = state
        // On the heap, because a mutex must not move.
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Calls `body` with the value. Not to be nested on the same lock. What leaves the lock must be Sendable; what
    /// `body` captures must not be left behind in the value unless it is Sendable too.
    package func withLock<Result: Sendable & ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state)
    }
}
