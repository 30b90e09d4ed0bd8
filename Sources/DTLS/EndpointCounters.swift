/// What a client or a server has counted beside its live associations: what belonged to none of them, and the sums of
/// those that have ended.
struct EndpointCounters: Sendable {
    private var sums = DtlsStatistics()

    mutating func received(_ bytes: Int) {
        sums.datagramsReceived += 1
        sums.bytesReceived += bytes
    }

    mutating func dropped(_ reason: DtlsDropReason) {
        sums.drops[reason] += 1
    }

    /// The system refused to send an answer to a stranger.
    mutating func sendFailed() {
        sums.sendFailures += 1
    }

    /// A cookie, or an alert once more, went to a stranger.
    mutating func answered(_ bytes: Int, withCookie: Bool) {
        if withCookie { sums.cookiesSent += 1 }
        sums.datagramsSent += 1
        sums.bytesSent += bytes
    }

    mutating func associationEnded(_ statistics: DtlsStatistics, _ reason: DtlsCloseReason) {
        sums.add(statistics.withoutReceived)
        switch reason {
        case .evicted: sums.connectionsEvicted += 1
        case .idle: sums.connectionsIdledOut += 1
        default: break
        }
    }

    mutating func connections(_ count: Int, handshakes: Int) {
        sums.mostConnections = Swift.max(sums.mostConnections, count)
        sums.mostHandshakes = Swift.max(sums.mostHandshakes, handshakes)
    }

    /// The whole, with the associations that live.
    func statistics(_ live: [Association], _ socket: UDPSocket.Counters) -> DtlsStatistics {
        var whole = sums
        for association in live { whole.add(association.statistics.withoutReceived) }
        whole.mostQueuedDatagrams = socket.mostQueued
        // Whose sender had gone on.
        whole.sendFailures += Int(socket.gatheredFailed)
        whole.drops[.sendQueueFull] += Int(socket.gatheredDropped)
        return whole
    }
}

extension DtlsStatistics {
    /// Without the datagrams that came, where somebody else has counted the same ones: the endpoint, or the engine
    /// beside this one.
    var withoutReceived: DtlsStatistics {
        var others = self
        others.datagramsReceived = 0
        others.bytesReceived = 0
        return others
    }
}
