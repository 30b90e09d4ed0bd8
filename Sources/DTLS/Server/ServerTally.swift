import DTLSCore
import DTLSPrimitives

/// What the loops of a server count together, so that its limits hold for the server as a whole.
///
/// It is asked when handshakes begin and end, never for a datagram of a connection. Its locks may be taken with that of
/// a ``ServerEndpoint`` held, not the other way round.
final class ServerTally: Sendable {
    struct State {
        var admission: HandshakeAdmission
        var silence = SilenceOrder()
        /// How many connections each loop has, handshakes included.
        fileprivate var present: [Int]
        fileprivate var sum = 0

        /// Takes note of how many connections a loop has. Returns how many there are.
        @discardableResult
        mutating func connections(_ count: Int, ofLoop index: Int) -> Int {
            sum += count - present[index]
            present[index] = count
            return sum
        }
    }

    let state: Lock<State>
    let cookieRate: SharedRateLimiter?
    let handshakeRate: SharedRateLimiter?

    init(_ limits: DtlsServerLimits, loops: Int, now: Moment = .now) {
        let admission = HandshakeAdmission(maximum: limits.handshakes, maximumPerPrefix: limits.handshakesPerPrefix)
        state = Lock(State(admission: admission, present: [Int](repeating: 0, count: loops)))
        cookieRate = limits.cookieRatePerPrefix.map { SharedRateLimiter($0, loops: loops, now: now) }
        handshakeRate = limits.handshakeRatePerPrefix.map { SharedRateLimiter($0, loops: loops, now: now) }
    }
}
