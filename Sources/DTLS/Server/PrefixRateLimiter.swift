import DTLSPrimitives

/// Token buckets for prefixes, in a table that never grows.
///
/// Prefixes that fall on the same place share a bucket; where they fall differs from process to process, so that nobody
/// can aim at another's.
struct PrefixRateLimiter {
    /// 16,384 buckets of 24 bytes.
    fileprivate static let size = 1 << 14

    private let rate: DtlsRate
    private var buckets: [TokenBucket]

    init(_ rate: DtlsRate, now: Moment) {
        self.init(rate, size: Self.size, now: now)
    }

    fileprivate init(_ rate: DtlsRate, size: Int, now: Moment) {
        self.rate = rate
        buckets = [TokenBucket](repeating: TokenBucket(rate, now: now), count: size)
    }

    /// Takes a token, if there is one.
    mutating func take(_ prefix: AddressPrefix, now: Moment) -> Bool {
        take(Self.hash(prefix), now: now)
    }

    fileprivate mutating func take(_ hash: UInt, now: Moment) -> Bool {
        buckets[Int(truncatingIfNeeded: hash % UInt(buckets.count))].take(rate, now: now)
    }

    /// The hash's seed is the process's own.
    fileprivate static func hash(_ prefix: AddressPrefix) -> UInt { UInt(bitPattern: prefix.hashValue) }
}

/// A ``PrefixRateLimiter`` for all loops of a server.
final class SharedRateLimiter: Sendable {
    // As many as let loops in a flood of hellos seldom wait for each other.
    private let parts: [Lock<PrefixRateLimiter>]

    init(_ rate: DtlsRate, loops: Int, now: Moment) {
        let count = loops > 1 ? 64 : 1
        parts = (0..<count).map { _ in
            Lock(PrefixRateLimiter(rate, size: PrefixRateLimiter.size / count, now: now))
        }
    }

    /// Takes a token, if there is one.
    func take(_ prefix: AddressPrefix, now: Moment) -> Bool {
        let (rest, index) = PrefixRateLimiter.hash(prefix).quotientAndRemainder(dividingBy: UInt(parts.count))
        return parts[Int(truncatingIfNeeded: index)].withLock { $0.take(rest, now: now) }
    }
}
