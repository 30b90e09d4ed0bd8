import DTLSPrimitives
import DequeModule

/// Where a server keeps its sessions, so that clients may resume them by ID: a cache, a database, something that hosts
/// share.
///
/// Its functions are called in tasks of their own, of several handshakes at the same time; only the handshake that asks
/// waits, within its time. What is stored holds the secrets of connections.
public protocol DtlsSessionStore: Sendable {
    /// The session of this ID, or `nil` when there is none or it has expired.
    ///
    /// - Parameter id: What somebody sent who is known by his address alone: 1 to 32 bytes of any value. Sessions have
    ///   IDs of up to 32.
    func session(for id: [UInt8]) async -> DtlsStoredSession?

    /// Keeps a session, in place of another one of its ID.
    ///
    /// - Parameters:
    ///   - session: What ``session(for:)`` is to return for its ID.
    ///   - lifetime: For how long from now.
    func store(_ session: DtlsStoredSession, lifetime: Duration) async
}

/// Keeps sessions in memory: the most recent ones, up to a number. Everything may be called from any thread or task.
public final class DtlsInMemorySessionStore: DtlsSessionStore {
    private let capacity: Int
    private let state = Lock(State())

    private struct Entry: Sendable {
        let session: DtlsStoredSession
        let expiresAt: Moment
        let number: Int
    }

    private struct State: Sendable {
        var sessions: [[UInt8]: Entry] = [:]
        /// IDs in the order in which they came, with the number of their entry: one that was replaced is passed over.
        var order = Deque<(id: [UInt8], number: Int)>()
        var nextNumber = 0
    }

    /// Makes a store.
    ///
    /// - Parameter capacity: How many sessions it keeps, of 200 to 700 bytes each. Less than 1 counts as 1. Default:
    ///   10,000.
    public init(capacity: Int = 10_000) {
        self.capacity = max(1, capacity)
    }

    /// How many sessions it holds, expired ones included that nobody has asked for since.
    public var count: Int { state.withLock { $0.sessions.count } }

    /// The session of this ID, or `nil` when there is none, it has expired, or gave way to others.
    public func session(for id: [UInt8]) async -> DtlsStoredSession? {
        state.withLock { state in
            guard let entry = state.sessions[id] else { return nil }
            guard entry.expiresAt > .now else {
                state.sessions[id] = nil
                return nil
            }
            return entry.session
        }
    }

    /// Keeps a session for as long as `lifetime` says, or until as many came after it as there are places.
    public func store(_ session: DtlsStoredSession, lifetime: Duration) async {
        state.withLock { state in
            state.nextNumber += 1
            state.sessions[session.id] = Entry(
                session: session,
                expiresAt: .now + lifetime,
                number: state.nextNumber
            )
            state.order.append((session.id, state.nextNumber))
            // Twice as many may be more than a number can say.
            while state.sessions.count > capacity || state.order.count - capacity > capacity,
                let oldest = state.order.popFirst()
            {
                if state.sessions[oldest.id]?.number == oldest.number { state.sessions[oldest.id] = nil }
            }
        }
    }
}

/// How a server lets clients resume sessions: a shorter handshake, without certificates or keys being computed again.
///
/// Lifetimes are checked when the context is made, which throws
/// ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration`` for one out of its range.
public struct DtlsServerResumption: Sendable {
    enum Kind: Sendable {
        case none
        case automatic
        case tickets(DtlsTicketKeys)
        case store(any DtlsSessionStore)
    }

    let kind: Kind
    let lifetime: Duration

    /// Every handshake is a full one.
    public static let none = DtlsServerResumption(kind: .none, lifetime: .zero)

    /// Tickets under keys of this context's own, which are random and replaced every hour; good for two hours at the
    /// most, and none where the context has `acceptsCertificates`. The default.
    public static let automatic = DtlsServerResumption(kind: .automatic, lifetime: .seconds(7_200))

    /// Tickets under keys that the application gives, and may share among hosts (RFC 5077). The server keeps nothing.
    ///
    /// - Parameters:
    ///   - keys: The keys.
    ///   - lifetime: How long a ticket is good, and no longer than its key is kept: one second to one week, of which a
    ///     fraction of a second is cut off. Default: two hours.
    public static func tickets(_ keys: DtlsTicketKeys, lifetime: Duration = .seconds(7_200)) -> DtlsServerResumption {
        DtlsServerResumption(kind: .tickets(keys), lifetime: lifetime)
    }

    /// Sessions in a store, by ID (RFC 5246 §7.4.1.2).
    ///
    /// - Parameters:
    ///   - store: The store.
    ///   - lifetime: How long a session is good: one second to one week, of which a fraction of a second is cut off.
    ///     Default: two hours.
    public static func store(
        _ store: any DtlsSessionStore,
        lifetime: Duration = .seconds(7_200)
    ) -> DtlsServerResumption {
        DtlsServerResumption(kind: .store(store), lifetime: lifetime)
    }

    var isAutomatic: Bool {
        if case .automatic = kind { true } else { false }
    }

    func engineResumption() throws(DtlsError) -> DtlsResumption {
        switch kind {
        case .none: .none
        case .automatic: .tickets(try DtlsTicketKeys(), lifetime: lifetime)
        case .tickets(let keys): .tickets(keys, lifetime: lifetime)
        case .store: .store(lifetime: lifetime)
        }
    }
}
