import DTLSPrimitives

/// When a flight of the handshake that was not answered is sent again (RFC 6347 §4.2.4).
///
/// OpenSSL starts at one second. The default here starts at 400 milliseconds, which suits the Internet of today,
/// doubles at each attempt and stays at 4 seconds. Once the round trip is known, which a client learns from the cookie
/// exchange, the first wait for each further flight fits the path.
///
/// It is checked when a context is made, which throws ``DtlsError/Code-swift.struct/invalidConfiguration`` for a value
/// out of its range.
public struct DtlsRetransmissionPolicy: Sendable, Hashable {
    /// How long the first wait for an answer takes: 20 milliseconds to 60 seconds. Default: 400 milliseconds.
    public var initialTimeout: Duration

    /// By what the wait grows at each attempt: 1 to 10. Default: 2.
    public var factor: Double

    /// The longest wait: at least `initialTimeout`, at most 60 seconds. Default: 4 seconds.
    public var maximumTimeout: Duration

    /// By which part of itself each wait varies at random, up and down: 0 to 0.5. Default: 0.1.
    ///
    /// It keeps many clients that lost the same packet from coming back at the same moment.
    public var jitter: Double

    /// How many times a flight is sent again before the handshake fails with
    /// ``DtlsError/Code-swift.struct/handshakeTimedOut``: 0 to 12, which is where OpenSSL stops. Default: 12.
    public var maximumAttempts: Int

    /// Whether the first wait follows the round trip where it is known (``DtlsEngine/roundTrip``): three times as long
    /// and 20 milliseconds (RFC 6298 §2.2), but not below 100 milliseconds or `initialTimeout`, whichever is less, and
    /// not above `maximumTimeout`. Default: `true`.
    ///
    /// A short path so repairs a loss sooner than `initialTimeout` would, and a long one is not flooded with flights
    /// whose answers are on their way.
    public var adaptsToRoundTrip: Bool

    /// Whether a flight of at most two datagrams that must be sent a second time again, or more often, leaves in two
    /// copies. Default: `true`.
    ///
    /// Two losses in a row mean that many are lost, and the next wait is long. QUIC does so after each of its timeouts
    /// (RFC 9002 §6.2.4).
    public var doublesSmallFlights: Bool

    /// Makes a policy; every parameter has the default that its property names.
    public init(
        initialTimeout: Duration = .milliseconds(400),
        factor: Double = 2,
        maximumTimeout: Duration = .seconds(4),
        jitter: Double = 0.1,
        maximumAttempts: Int = 12,
        adaptsToRoundTrip: Bool = true,
        doublesSmallFlights: Bool = true
    ) {
        self.initialTimeout = initialTimeout
        self.factor = factor
        self.maximumTimeout = maximumTimeout
        self.jitter = jitter
        self.maximumAttempts = maximumAttempts
        self.adaptsToRoundTrip = adaptsToRoundTrip
        self.doublesSmallFlights = doublesSmallFlights
    }

    func validate() throws(DtlsError) {
        let problem: String? =
            if !(Duration.milliseconds(20)...Duration.seconds(60)).contains(initialTimeout) {
                "the initial retransmission timeout \(initialTimeout) is outside of 20 milliseconds to 60 seconds"
            } else if !(factor >= 1 && factor <= 10) {
                "the retransmission factor \(factor) is outside of 1 to 10"
            } else if !(initialTimeout...Swift.max(initialTimeout, .seconds(60))).contains(maximumTimeout) {
                "the maximum retransmission timeout \(maximumTimeout) is below the initial one or above 60 seconds"
            } else if !(jitter >= 0 && jitter <= 0.5) {
                "the retransmission jitter \(jitter) is outside of 0 to 0.5"
            } else if !(0...12).contains(maximumAttempts) {
                "\(maximumAttempts) retransmission attempts are outside of 0 to 12"
            } else {
                nil
            }
        if let problem { throw DtlsError(.invalidConfiguration, phase: .configuration, problem) }
    }

    /// The first wait is not made shorter than this by a short round trip: the peer computes, and may look something
    /// up.
    static let shortestAdaptedTimeout = Duration.milliseconds(100)

    /// The first wait where the round trip is known or not, without jitter.
    func firstTimeout(roundTrip: Duration?) -> Duration {
        guard adaptsToRoundTrip, let roundTrip else { return Swift.min(initialTimeout, maximumTimeout) }
        // The comparison comes first, so that nothing overflows.
        guard roundTrip < maximumTimeout else { return maximumTimeout }
        let adapted = Swift.max(roundTrip, .zero) * 3 + .milliseconds(20)
        return Swift.min(Swift.max(adapted, Swift.min(initialTimeout, Self.shortestAdaptedTimeout)), maximumTimeout)
    }

    /// The wait that follows one of `previous` microseconds (0: the first), without jitter.
    func timeout(after previous: UInt32, roundTrip: Duration? = nil) -> UInt32 {
        guard previous > 0 else { return UInt32(clamping: firstTimeout(roundTrip: roundTrip).microseconds) }
        let cap = maximumTimeout.microseconds
        return UInt32(clamping: Int64(Swift.min(Double(previous) * factor, Double(cap))))
    }
}

extension Duration {
    /// Whole microseconds.
    package var microseconds: Int64 { nanoseconds / 1_000 }
}
