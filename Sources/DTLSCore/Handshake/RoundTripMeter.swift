import DTLSPrimitives

/// Finds out how long the path takes there and back, once, from a flight of the handshake and the first datagram of its
/// answer.
///
/// A HelloVerifyRequest has the record sequence number of the hello that it answers (RFC 6347 §4.2.1), so it tells
/// which one of several that is. Other answers do not, and say nothing about a flight that was sent more than once
/// (Karn's algorithm, RFC 6298 §3).
struct RoundTripMeter {
    private struct Flight {
        /// The highest record sequence number in it.
        let last: UInt64
        let time: Moment
    }

    private let role: DtlsRole
    private var flights: [Flight] = []
    private var isDone = false

    /// As many copies of a hello are remembered; OpenSSL sends no more.
    private static let maximumFlights = 16

    init(role: DtlsRole) {
        self.role = role
    }

    /// Takes note of a flight that is leaving, for the first time or again.
    mutating func sent(upTo sequenceNumber: UInt64, at time: Moment) {
        guard !isDone, flights.count < Self.maximumFlights else { return }
        flights.append(Flight(last: sequenceNumber, time: time))
    }

    /// What a datagram that came tells. It does once at the most.
    mutating func roundTrip(
        shownBy datagram: UnsafeRawBufferPointer,
        now: Moment
    ) -> Duration? {
        guard !isDone, let first = flights.first, let header = RecordHeader(datagram, at: 0), header.epoch == 0,
            header.contentType == ContentType.handshake, header.length > HandshakeFragment.headerSize
        else { return nil }
        let answered: Flight?
        switch (role, datagram[RecordHeader.size]) {
        case (.client, HandshakeType.helloVerifyRequest):
            answered = flights.first { header.sequenceNumber <= $0.last }
        case (.client, HandshakeType.serverHello), (.server, HandshakeType.certificate),
            (.server, HandshakeType.clientKeyExchange):
            answered = flights.count == 1 ? first : nil
        default:
            return nil
        }
        isDone = true
        return answered.map { Swift.max(now - $0.time, .zero) }
    }
}
