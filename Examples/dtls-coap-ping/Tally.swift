import ExampleSupport

/// What has become of the requests so far.
struct Tally: Equatable, Sendable {
    var requests = 0
    /// Given up, and neither answered nor under way.
    var unanswered = 0
    var retransmissions = 0
    var lateOrRepeated = 0
    /// Datagrams that answer nothing, or are no messages.
    var ignored = 0
    var roundTrips = RoundTrips()

    /// As `ping` ends, in three lines or two.
    func summary(of origin: String, after time: Duration) -> String {
        let replies = roundTrips.count
        let over = replies + unanswered
        let loss = over == 0 ? 0 : Int((Double(unanswered) / Double(over) * 100).rounded())
        let counts = [
            counted(requests, "request", plural: "requests"), counted(replies, "reply", plural: "replies"),
            "\(loss)% loss", counted(retransmissions, "retransmission", plural: "retransmissions"),
            lateOrRepeated == 0 ? nil : "\(lateOrRepeated) late or repeated", ignored == 0 ? nil : "\(ignored) ignored",
            "time \(Self.figure(time, decimals: 0)) ms",
        ]
        var lines = ["--- \(origin) CoAP ping statistics ---", counts.compactMap(\.self).joined(separator: ", ")]
        if let figures = roundTrips.figures {
            let text = figures.map { Self.figure($0, decimals: 3) }.joined(separator: "/")
            lines.append("rtt min/avg/max/mdev = \(text) ms")
        }
        return lines.joined(separator: "\n")
    }

    /// Milliseconds with so many decimals.
    static func figure(_ duration: Duration, decimals: Int) -> String {
        let unit = (0..<decimals).reduce(1) { power, _ in power * 10 }
        let number = Int64((duration / .milliseconds(1) * Double(unit)).rounded())
        guard decimals > 0 else { return "\(number)" }
        let fraction = "\(number % Int64(unit))"
        return "\(number / Int64(unit))." + String(repeating: "0", count: decimals - fraction.count) + fraction
    }
}

/// The times that replies took, as their sums: there may be any number of them.
struct RoundTrips: Equatable, Sendable {
    private(set) var count = 0
    private var least = Duration.zero
    private var most = Duration.zero
    private var sum = 0.0
    private var sumOfSquares = 0.0

    mutating func add(_ time: Duration) {
        let seconds = time / .seconds(1)
        least = count == 0 ? time : min(least, time)
        most = max(most, time)
        sum += seconds
        sumOfSquares += seconds * seconds
        count += 1
    }

    /// The least, the mean, the most and the standard deviation; nil where there are none.
    var figures: [Duration]? {
        guard count > 0 else { return nil }
        let mean = sum / Double(count)
        let variance = max(0, sumOfSquares / Double(count) - mean * mean)
        return [least, .seconds(mean), most, .seconds(variance.squareRoot())]
    }
}
