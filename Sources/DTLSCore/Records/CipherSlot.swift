import COpenSSL
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Two contexts of a cipher, one that seals and one that opens, which stay keyed from one record to the next.
///
/// Keying takes half as long as sealing a small record does, and contexts of its own are more than an association needs
/// for all the rest. So there is a bounded number of slots, each association has one, and several may have the same:
/// whoever finds a context keyed for somebody else keys it anew. What tells them apart is the number of the key, which
/// no other key of the process ever has.
///
/// Why it is safe to share: everything but `isTaken` and what is constant is touched only by the one who has set it,
/// and nobody waits for it to work on a record.
final class CipherSlot: @unchecked Sendable {
    /// Its place among its cipher's.
    let index: Int

    private let isTaken = Atomic(false)
    private var isUsed = false
    private var sealing: OpaquePointer?
    private var opening: OpaquePointer?
    private(set) var sealingKey = CipherSlot.noKey
    private(set) var openingKey = CipherSlot.noKey

    /// The number that no key has.
    static let noKey: UInt64 = 0

    private static let lastKey = Atomic<UInt64>(noKey)

    private static let count = Atomic(0)

    /// The numbers of two new keys: this one and the next.
    static func makeKeyNumbers() -> UInt64 { lastKey.add(2, ordering: .relaxed).newValue - 1 }

    /// How many contexts there are in all slots.
    static var contexts: Int { count.load(ordering: .relaxed) }

    init(index: Int) {
        self.index = index
    }

    deinit {
        free(seals: true)
        free(seals: false)
    }

    /// Keeps everybody else out, until ``giveBack()``. Returns whether it could; nothing else may be called otherwise.
    func take() -> Bool { !isTaken.exchange(true, ordering: .acquiring) }

    func giveBack() { isTaken.store(false, ordering: .releasing) }

    /// The context for a direction, if there is one, and whether it is keyed with a key.
    func context(seals: Bool, key: UInt64) -> (context: OpaquePointer?, isKeyed: Bool) {
        isUsed = true
        return seals ? (sealing, sealingKey == key) : (opening, openingKey == key)
    }

    /// Takes a context that is about to be keyed with a key.
    func keep(_ context: OpaquePointer, seals: Bool, key: UInt64) {
        if context != (seals ? sealing : opening) {
            free(seals: seals)
            Self.count.add(1, ordering: .relaxed)
        }
        if seals {
            (sealing, sealingKey) = (context, key)
        } else {
            (opening, openingKey) = (context, key)
        }
    }

    /// Frees the context for a direction, which wipes its key.
    func free(seals: Bool) {
        guard let context = seals ? sealing : opening else { return }
        EVP_CIPHER_CTX_free(context)
        Self.count.subtract(1, ordering: .relaxed)
        if seals {
            (sealing, sealingKey) = (nil, Self.noKey)
        } else {
            (opening, openingKey) = (nil, Self.noKey)
        }
    }

    /// Frees what is keyed with one of two keys: `key` and the next number.
    func forget(keys key: UInt64) {
        // Another association is at it, for the time of one record, or frees what is idle. Whoever has it may be a
        // thread that this one keeps from running: so it sleeps in the end.
        var attempts = 0
        while !take() {
            attempts += 1
            if attempts < 16 { sched_yield() } else { usleep(50) }
        }
        defer { giveBack() }
        let keys = key...(key + 1)
        if keys.contains(sealingKey) { free(seals: true) }
        if keys.contains(openingKey) { free(seals: false) }
    }

    /// Frees the contexts if nobody has used them since the last time.
    func releaseIfIdle() {
        // Whoever has it uses it.
        guard take() else { return }
        defer { giveBack() }
        guard !isUsed else {
            isUsed = false
            return
        }
        free(seals: true)
        free(seals: false)
    }
}

/// The slots of a cipher: as many as there are associations, up to a bound; then they begin to share some of them.
struct CipherSlots: ~Copyable {
    /// What stays keyed takes an association some 1.4 kB. With as many busy ones it takes less to fetch that from where
    /// it is than to key what somebody else has keyed.
    static let maximumCount = 1_024

    /// Few enough for what is keyed to stay in a processor's cache, so that keying is all that sharing costs. Enough
    /// for loops to meet rarely.
    static let sharedCount = 256

    private(set) var all: [CipherSlot] = []
    /// How many associations have each.
    private var users: [Int] = []
    /// Those that nobody has any more.
    private var free: [Int] = []
    private var next = 0

    /// A slot for one more association: one of its own, as long as there is any.
    mutating func assign() -> CipherSlot {
        if let index = free.popLast() { return use(index) }
        guard all.count == Self.maximumCount else {
            all.append(CipherSlot(index: all.count))
            users.append(0)
            return use(all.count - 1)
        }
        defer { next = (next + 1) % Self.sharedCount }
        return use(next)
    }

    /// Counts one more user.
    mutating func use(_ index: Int) -> CipherSlot {
        users[index] += 1
        return all[index]
    }

    /// Takes back what ``assign()`` gave, once.
    mutating func giveBack(_ slot: CipherSlot) {
        // Tests and fuzzers have several associations with the same keys.
        guard users[slot.index] > 0 else { return }
        users[slot.index] -= 1
        if users[slot.index] == 0 { free.append(slot.index) }
    }
}
