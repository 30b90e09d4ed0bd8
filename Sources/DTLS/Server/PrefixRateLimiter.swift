/// Token buckets for prefixes, in a table that never grows.
///
/// Prefixes that fall on the same place share a bucket; where they fall differs from process to process, so that nobody
/// can aim at another's.
struct PrefixRateLimiter {
    private struct Bucket {
        var tokens: Double
        var filledAt: ContinuousClock.Instant
    }

    /// 16,384 buckets of 24 bytes.
    private static let size = 1 << 14

    private let rate: DtlsRate
    private var buckets: [Bucket]

    init(_ rate: DtlsRate, now: ContinuousClock.Instant) {
        self.rate = rate
        buckets = [Bucket](repeating: Bucket(tokens: rate.burst, filledAt: now), count: Self.size)
    }

    /// Takes a token, if there is one.
    mutating func take(_ prefix: AddressPrefix, now: ContinuousClock.Instant) -> Bool {
        // The hash's seed is the process's own.
        let index = Int(truncatingIfNeeded: UInt(bitPattern: prefix.hashValue) % UInt(Self.size))
        var bucket = buckets[index]
        if now > bucket.filledAt {
            let seconds = Double((now - bucket.filledAt).microseconds) / 1_000_000
            bucket.tokens = Swift.min(rate.burst, bucket.tokens + seconds * rate.perSecond)
            bucket.filledAt = now
        }
        let isThere = bucket.tokens >= 1
        if isThere { bucket.tokens -= 1 }
        buckets[index] = bucket
        return isThere
    }
}
