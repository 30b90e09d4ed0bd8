/// Where an association stands.
///
///     idle ──start──▶ handshaking ──finished──▶ open
///       │                 │                       │
///       └────────────── end(reason) ──────────────┴──▶ closed
///
/// It makes no OpenSSL call; it says what is allowed.
struct Lifecycle: ~Copyable {
    enum State {
        case idle
        case handshaking
        case open
        case closed(DtlsCloseReason)
    }

    private(set) var state = State.idle

    /// Whether a handshake starts now. It does once.
    mutating func start() -> Bool {
        guard case .idle = state else { return false }
        state = .handshaking
        return true
    }

    /// Whether the handshake ends in success now.
    mutating func finish() -> Bool {
        guard case .handshaking = state else { return false }
        state = .open
        return true
    }

    /// Whether the association ends now. It does once, and the first reason stays.
    mutating func end(_ reason: DtlsCloseReason) -> Bool {
        if case .closed = state { return false }
        state = .closed(reason)
        return true
    }

    var isHandshaking: Bool {
        if case .handshaking = state { true } else { false }
    }

    var isOpen: Bool {
        if case .open = state { true } else { false }
    }

    var closeReason: DtlsCloseReason? {
        if case .closed(let reason) = state { reason } else { nil }
    }
}

/// Why an association ended.
public enum DtlsCloseReason: Sendable, Hashable, CustomStringConvertible {
    /// This side closed it, or nobody held it any more.
    case closedLocally

    /// The peer sent close_notify.
    case closedByPeer

    /// The peer started anew from the same address, and its new association has taken this one's place (RFC 6347
    /// §4.2.8).
    case replacedByPeer

    /// Neither side sent anything for longer than the server's limits allow (`DtlsServerLimits.idleTimeout`).
    case idle

    /// The server needed its place for another peer, or had none for it (`DtlsServerLimits`).
    case evicted

    /// Another process goes on with it (``DtlsEngine/handOver()``). The peer was told nothing.
    case handedOver

    /// It failed: its handshake, or later by an alert of the peer's or keys that were used up.
    case failed(DtlsError)

    /// A line for logs, in English.
    public var description: String {
        switch self {
        case .closedLocally: "closed by this side"
        case .closedByPeer: "closed by the peer"
        case .replacedByPeer: "replaced by a new association of the peer"
        case .idle: "closed because it was idle"
        case .evicted: "closed to make room for others"
        case .handedOver: "handed over to another process"
        case .failed(let error): error.description
        }
    }
}
