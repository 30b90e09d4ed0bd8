/// What a detached association counts: no more than can still happen to it, because there may be a hundred thousand.
struct DetachedCounts {
    var datagramsReceived = 0
    var bytesReceived = 0
    var datagramsSent = 0
    var bytesSent = 0
    var payloadsReceived = 0
    var payloadsSent = 0
    var retransmissions = 0
    var drops = DtlsDrops()
    let roundTrip: Duration?
    /// Of its handshake; none when another process has had it.
    private let handshakes: UInt8
    private let resumed: UInt8

    /// Of an association that comes from elsewhere.
    init() {
        roundTrip = nil
        handshakes = 0
        resumed = 0
    }

    /// Goes on with what an association has counted up to the end of its handshake.
    init(_ statistics: DtlsStatistics) {
        datagramsReceived = statistics.datagramsReceived
        bytesReceived = statistics.bytesReceived
        datagramsSent = statistics.datagramsSent
        bytesSent = statistics.bytesSent
        payloadsReceived = statistics.payloadsReceived
        payloadsSent = statistics.payloadsSent
        retransmissions = statistics.retransmissions
        drops = statistics.drops
        roundTrip = statistics.roundTrip
        handshakes = UInt8(clamping: statistics.handshakesCompleted)
        resumed = UInt8(clamping: statistics.handshakesResumed)
    }

    var statistics: DtlsStatistics {
        var statistics = DtlsStatistics()
        statistics.datagramsReceived = datagramsReceived
        statistics.bytesReceived = bytesReceived
        statistics.datagramsSent = datagramsSent
        statistics.bytesSent = bytesSent
        statistics.payloadsReceived = payloadsReceived
        statistics.payloadsSent = payloadsSent
        statistics.retransmissions = retransmissions
        statistics.drops = drops
        statistics.roundTrip = roundTrip
        statistics.handshakesStarted = Int(handshakes)
        statistics.handshakesCompleted = Int(handshakes)
        statistics.handshakesResumed = Int(resumed)
        return statistics
    }
}
