#if canImport(Glibc)
    public import Glibc
#elseif canImport(Musl)
    public import Musl
#elseif canImport(Darwin)
    public import Darwin
#endif

/// A value behind a mutex.
///
/// A pthread mutex rather than `Synchronization.Mutex`, because ThreadSanitizer does not see the happens-before of the
/// latter's contended path on Linux and reports races where there are none; with this one its reports are true.
///
/// In a module of its own, because only what is public is compiled into its callers in other modules, and a lock for
/// which the run-time is asked about types costs several times what it does for what it guards. No product of the
/// package has the module in it: it is no part of the API.
///
/// `@unchecked Sendable`: the value is touched only while the mutex is held.
public final class Lock<State: ~Copyable>: @unchecked Sendable {
    // The mutex and behind it the value. On the heap, because a mutex must not move; and behind a pointer, because the
    // run-time's check that nobody else has access costs as much as the lock, which sees to that. Not one struct of
    // both: code that is not specialized would ask the run-time for its type at each use, which costs even more. Made
    // in init, freed in deinit.
    @usableFromInline let memory: UnsafeMutableRawPointer

    @usableFromInline var mutex: UnsafeMutablePointer<pthread_mutex_t> {
        @inlinable get { memory.assumingMemoryBound(to: pthread_mutex_t.self) }
    }

    @usableFromInline var state: UnsafeMutablePointer<State> {
        @inlinable get { (memory + Self.stateOffset).assumingMemoryBound(to: State.self) }
    }

    /// Where the value begins: the first place for its alignment behind the mutex.
    @usableFromInline static var stateOffset: Int {
        @inlinable get {
            let mask = MemoryLayout<State>.alignment - 1
            return (MemoryLayout<pthread_mutex_t>.size + mask) & ~mask
        }
    }

    /// Makes a lock around a value.
    public init(_ state: consuming sending State) {
        memory = .allocate(
            byteCount: Self.stateOffset + MemoryLayout<State>.size,
            alignment: max(MemoryLayout<pthread_mutex_t>.alignment, MemoryLayout<State>.alignment)
        )
        memory.bindMemory(to: pthread_mutex_t.self, capacity: 1).initialize(to: pthread_mutex_t())
        (memory + Self.stateOffset).bindMemory(to: State.self, capacity: 1).initialize(to: state)
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        state.deinitialize(count: 1)
        memory.deallocate()
    }

    /// Calls `body` with the value. Not to be nested on the same lock. What leaves the lock must be Sendable; what
    /// `body` captures must not be left behind in the value unless it is Sendable too.
    @inlinable
    public func withLock<Result: Sendable & ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state.pointee)
    }
}
