import DTLSPrimitives

/// Tokens that come with time, up to a number.
struct TokenBucket {
    private var tokens: Double
    private var filledAt: Moment

    init(_ rate: DtlsRate, now: Moment) {
        tokens = rate.burst
        filledAt = now
    }

    /// Takes a token, if there is one.
    mutating func take(_ rate: DtlsRate, now: Moment) -> Bool {
        if now > filledAt {
            let seconds = Double((now - filledAt).microseconds) / 1_000_000
            tokens = Swift.min(rate.burst, tokens + seconds * rate.perSecond)
            filledAt = now
        }
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }
}
