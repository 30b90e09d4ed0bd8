#if canImport(Glibc)
    package import Glibc
#elseif canImport(Musl)
    package import Musl
#elseif canImport(Darwin)
    package import Darwin
#endif

/// A value behind a mutex.
///
/// A pthread mutex rather than `Synchronization.Mutex`, because ThreadSanitizer does not see the happens-before of the
/// latter's contended path on Linux and reports races where there are none; with this one its reports are true.
///
/// `@unchecked Sendable`: `contents` are touched only while their mutex is held.
package final class Lock<State: ~Copyable>: @unchecked Sendable {
    @usableFromInline
    package struct Contents: ~Copyable {
        @usableFromInline var mutex = pthread_mutex_t()
        @usableFromInline var state: State

        init(_ state: consuming State) { self.state = state }
    }

    // On the heap, because a mutex must not move; and behind a pointer, because the run-time's check that nobody else
    // has access costs as much as the lock, which sees to that. Made in init, freed in deinit.
    @usableFromInline let contents: UnsafeMutablePointer<Contents>

    package init(_ state: consuming sending State) {
        contents = .allocate(capacity: 1)
        contents.initialize(to: Contents(state))
        pthread_mutex_init(&contents.pointee.mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(&contents.pointee.mutex)
        contents.deinitialize(count: 1)
        contents.deallocate()
    }

    /// Calls `body` with the value. Not to be nested on the same lock. What leaves the lock must be Sendable; what
    /// `body` captures must not be left behind in the value unless it is Sendable too.
    @inlinable
    package func withLock<Result: Sendable & ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(&contents.pointee.mutex)
        defer { pthread_mutex_unlock(&contents.pointee.mutex) }
        return try body(&contents.pointee.state)
    }
}
