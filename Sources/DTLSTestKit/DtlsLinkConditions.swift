public import DTLSCore

/// What a link does to the datagrams that it carries, in one direction. The default carries them all, in order,
/// unchanged and at once.
public struct DtlsLinkConditions: Sendable, Hashable {
    /// The probability that a datagram is lost: 0 to 1. Default: 0.
    public var loss: Double

    /// The probability that a datagram arrives twice: 0 to 1. Default: 0.
    public var duplication: Double

    /// The probability that a datagram is overtaken by the one behind it: 0 to 1. Default: 0.
    ///
    /// With nothing behind it, it arrives in its time. A `delay` that varies reorders as well.
    public var reordering: Double

    /// The probability that one bit of a datagram is flipped: 0 to 1. Default: 0.
    public var corruption: Double

    /// The probability that a datagram loses its end, from one byte to all of it: 0 to 1. Default: 0.
    public var truncation: Double

    /// How long a datagram is on its way, at random and evenly spread: from zero to one minute. Default: no time.
    public var delay: ClosedRange<Duration>

    /// The UDP payload of the largest datagram that passes, in bytes: 1 to 65,507. Larger ones vanish without a word.
    /// Default: 65,507.
    public var mtu: Int

    /// Makes conditions; every parameter has the default that its property names.
    public init(
        loss: Double = 0,
        duplication: Double = 0,
        reordering: Double = 0,
        corruption: Double = 0,
        truncation: Double = 0,
        delay: ClosedRange<Duration> = .zero ... .zero,
        mtu: Int = 65_507
    ) {
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self.corruption = corruption
        self.truncation = truncation
        self.delay = delay
        self.mtu = mtu
    }

    /// Checks that every value is in its range, as pairs and relays do.
    ///
    /// - Throws: ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` when one is not.
    public func validate() throws(DtlsError) {
        let probabilities = [
            ("loss", loss), ("duplication", duplication), ("reordering", reordering), ("corruption", corruption),
            ("truncation", truncation),
        ]
        var problem: String?
        for (name, value) in probabilities where !(0...1).contains(value) {
            problem = "a probability of \(name) of \(value) is outside of 0 to 1"
        }
        if delay.lowerBound < .zero || delay.upperBound > .seconds(60) {
            problem = "delays of \(delay) are outside of zero to one minute"
        }
        if !(1...65_507).contains(mtu) { problem = "an MTU of \(mtu) bytes is outside of 1 to 65507" }
        if let problem { throw DtlsError(.invalidConfiguration, phase: .configuration, problem) }
    }
}
