import DTLSPrimitives
import DequeModule

/// The last 64 hellos whose handshakes this side ended with an alert, for five seconds, as their digests.
///
/// A client that has lost the alert, or does not believe what is in clear, repeats its hello. It is told the same
/// again, instead of beginning a handshake that would fail, and be counted, as the one before. A hello that differs is
/// a new one.
struct RefusedHellos {
    private var entries: Deque<(hello: Int, peer: DtlsAddress, alert: DtlsAlert, at: Moment)> = []

    mutating func add(_ hello: Int, from peer: DtlsAddress, _ alert: DtlsAlert, now: Moment) {
        if entries.count == 64 { entries.removeFirst() }
        entries.append((hello, peer, alert, now))
    }

    /// What a hello is told that has been refused before.
    func alert(for hello: Int, from peer: DtlsAddress, now: Moment) -> DtlsAlert? {
        entries.last { $0.hello == hello && $0.peer == peer && now - $0.at < .seconds(5) }?.alert
    }
}
