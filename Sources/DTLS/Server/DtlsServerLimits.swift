public import DTLSCore

/// How much of a server its peers may take.
///
/// The defaults suit a server on the open Internet with a few gigabytes of memory. A connection that has been idle for
/// four minutes costs the library some 2 KiB, or, where it lives in OpenSSL (``/DTLSCore/DtlsRecordLayer``), some 40 to
/// 120 kB. What waits to be read, and the caller's task that waits for it, come on top.
///
/// They hold for a server as a whole, however many loops it has. They are checked when a server is made, which throws
/// ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for a value out of its range.
public struct DtlsServerLimits: Sendable, Hashable {
    /// How many connections may be open: 1 or more. Default: 20,000. Handshakes under way have ``handshakes``.
    ///
    /// When they are all there, a newcomer whose handshake is finished takes the place of the connection that has been
    /// silent longest, if that is stale (``staleAfter``), and is closed itself if it is not. While none is stale,
    /// hellos of new peers are dropped and counted as ``/DTLSCore/DtlsDropReason/connectionLimit``. Who is closed for
    /// want of room gets close_notify, and has the reason ``/DTLSCore/DtlsCloseReason/evicted``.
    public var connections = 20_000

    /// How long a connection must have been silent in both directions to give way to another peer: 0 seconds to 100
    /// years. Default: 30 minutes.
    public var staleAfter = Duration.seconds(1_800)

    /// How long a connection may be silent in both directions before it is closed, with the reason
    /// ``/DTLSCore/DtlsCloseReason/idle``: above zero, up to 100 years; `nil`: for ever. Default: `nil`, because
    /// devices may sleep for weeks.
    ///
    /// Only authentic payloads of the peer and own sends end a silence. A peer that vanished without close_notify
    /// (which may be lost) is noticed only by this, or when its place is needed.
    public var idleTimeout: Duration?

    /// How many handshakes may be under way: 1 or more. Default: 10,000.
    ///
    /// One more takes the place of the oldest, so that handshakes that nobody goes on with keep no newcomer out.
    public var handshakes = 10_000

    /// How many of them may be with addresses of one prefix (/24 of IPv4, /64 of IPv6): 1 or more. Default: 5,000.
    /// Hellos beyond are dropped and counted as ``/DTLSCore/DtlsDropReason/handshakeRate``.
    public var handshakesPerPrefix = 5_000

    /// How many handshakes may begin from one prefix; `nil`: any number. Default: 500 a second, 2,000 at once.
    ///
    /// Only hellos with a valid cookie count, so nobody with a forged address can use up the share of others;
    /// neighbours in one network share it. Hellos beyond are dropped and counted as
    /// ``/DTLSCore/DtlsDropReason/handshakeRate``.
    public var handshakeRatePerPrefix: DtlsRate? = DtlsRate(perSecond: 500, burst: 2_000)

    /// How many hellos without a valid cookie are answered for one prefix; `nil`: any number. Default: 1,000 a second,
    /// 4,000 at once.
    ///
    /// It bounds what a server can be made to send to somebody whose address is forged, in datagrams: in bytes the
    /// answer is never more than the hello. Whoever forges more hellos than that in the name of a network keeps its
    /// newcomers waiting; `nil` avoids that. Hellos beyond are dropped and counted as
    /// ``/DTLSCore/DtlsDropReason/cookieRate``.
    public var cookieRatePerPrefix: DtlsRate? = DtlsRate(perSecond: 1_000, burst: 4_000)

    /// How many connections wait to be taken from the server's sequence; one more is closed, with
    /// ``/DTLSCore/DtlsCloseReason/closedLocally``. 1 or more. Default: 4,096.
    public var waitingConnections = 4_096

    /// How many associations without a Connection ID are tried when a sealed record comes from an unknown address: 0 to
    /// 64. Default: 0, which drops it.
    ///
    /// A peer that knows no Connection IDs (``/DTLSCore/DtlsNegotiated/connectionIDs``) and whose NAT has given it
    /// another port goes on at once with this: if one of the associations at the same host opens the record, and it is
    /// newer than all before, the association moves. (Where there are no more associations than this, those of other
    /// hosts are tried as well; with several loops, where one of them has no more.) There is no check of the new
    /// address as there is with an ID: whoever can send a peer's newest record from a forged address diverts the
    /// answers. A trial takes about a microsecond; datagrams of strangers are tried 1,000 times a second at the most,
    /// and those of one network (IPv4 /24, IPv6 /64) 250 times.
    public var movedPeerTrials = 0

    /// How much of what a peer sent waits to be read, for each connection. Default: 1,024 payloads, 1 MiB.
    public var queue = DtlsQueueLimits()

    /// How many hellos in fragments may be under way, and how large. Each of several loops has an equal share of the
    /// number, and one at least. Default: 128 of up to 8,192 bytes, for 5 seconds.
    public var fragmentedHellos = DtlsHelloGate.Limits()

    /// Makes limits with the default values.
    public init() {}

    /// 100 years: what is longer could overflow the clock.
    static let longest = Duration.seconds(3_155_760_000)

    func validate() throws(DtlsError) {
        func name(_ property: String) -> String { "DtlsServerLimits.\(property)" }
        for (property, count) in [
            ("connections", connections), ("handshakes", handshakes), ("handshakesPerPrefix", handshakesPerPrefix),
            ("waitingConnections", waitingConnections),
        ] where count < 1 {
            throw DtlsError.outOfRange(name(property), count, use: "1 or more")
        }
        guard staleAfter >= .zero, staleAfter <= Self.longest else {
            throw DtlsError.outOfRange(name("staleAfter"), staleAfter, use: "0 seconds to 100 years")
        }
        if let idleTimeout, idleTimeout <= .zero || idleTimeout > Self.longest {
            let range = "what is above zero, up to 100 years, or nil for no limit"
            throw DtlsError.outOfRange(name("idleTimeout"), idleTimeout, use: range)
        }
        guard (0...64).contains(movedPeerTrials) else {
            throw DtlsError.outOfRange(name("movedPeerTrials"), movedPeerTrials, use: "0...64")
        }
        try handshakeRatePerPrefix?.validate(as: name("handshakeRatePerPrefix"))
        try cookieRatePerPrefix?.validate(as: name("cookieRatePerPrefix"))
        try queue.validate(as: name("queue"))
        try fragmentedHellos.validate(as: name("fragmentedHellos"))
    }
}

/// A rate with room for bursts: a bucket that holds `burst` tokens and gets `perSecond` of them each second.
public struct DtlsRate: Sendable, Hashable {
    /// How many in each second, on average: above 0, and finite.
    public var perSecond: Double
    /// How many at once: 1 or more, and finite.
    public var burst: Double

    /// Makes a rate. A server throws ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for one that is out
    /// of range.
    public init(perSecond: Double, burst: Double) {
        self.perSecond = perSecond
        self.burst = burst
    }

    /// - Parameter name: What the caller calls it.
    func validate(as name: String) throws(DtlsError) {
        guard perSecond > 0, perSecond.isFinite else {
            throw DtlsError.outOfRange("\(name).perSecond", perSecond, use: "a finite number above 0")
        }
        guard burst >= 1, burst.isFinite else {
            throw DtlsError.outOfRange("\(name).burst", burst, use: "a finite number, 1 or more")
        }
    }
}
