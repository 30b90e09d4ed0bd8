/// Token buckets for prefixes, in a table that never grows.
///
/// Prefixes that fall on the same place share a bucket; where they fall differs from process to process, so that nobody
/// can aim at another's.
struct PrefixRateLimiter {
    /// 16,384 buckets of 24 bytes.
    private static let size = 1 << 14

    private let rate: DtlsRate
    private var buckets: [TokenBucket]

    init(_ rate: DtlsRate, now: ContinuousClock.Instant) {
        self.rate = rate
        buckets = [TokenBucket](repeating: TokenBucket(rate, now: now), count: Self.size)
    }

    /// Takes a token, if there is one.
    mutating func take(_ prefix: AddressPrefix, now: ContinuousClock.Instant) -> Bool {
        // The hash's seed is the process's own.
        let index = Int(truncatingIfNeeded: UInt(bitPattern: prefix.hashValue) % UInt(Self.size))
        return buckets[index].take(rate, now: now)
    }
}
