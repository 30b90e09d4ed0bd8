/// When a message that must be confirmed is sent again (RFC 7252 §4.2), with the parameters of §4.8.
struct Transmission: Equatable, Sendable {
    /// ACK_TIMEOUT: how long the first wait takes at least.
    var acknowledgementTimeout: Duration = .seconds(2)
    /// ACK_RANDOM_FACTOR: how many times that it takes at most.
    var randomFactor = 1.5
    /// MAX_RETRANSMIT: how many times a message is sent again.
    var maximumRetransmissions = 4

    /// The first wait. Each further one is twice as long.
    func firstWait(using generator: inout some RandomNumberGenerator) -> Duration {
        acknowledgementTimeout * Double.random(in: 1...randomFactor, using: &generator)
    }
}
