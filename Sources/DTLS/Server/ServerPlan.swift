import DTLSCore
import DTLSPrimitives
import Logging

/// What a server is made of beside its sockets, and all that may fail about it: a socket that was adopted is closed
/// with its server.
struct ServerPlan {
    let context: DtlsServerContext
    let limits: DtlsServerLimits
    let admitsAddress: (@Sendable (DtlsAddress) -> Bool)?
    let handshakeFailed: (@Sendable (DtlsAddress, DtlsError) -> Void)?
    let logger: Logger?
    /// The associations to begin with.
    let arrivals: [DtlsSecretBytes]
    let accepted: AcceptQueue
    let tally: ServerTally
    /// Of each loop.
    let states: [Lock<ServerEndpoint.State>]
    /// Whether the kernel is told to look at Connection IDs. Tests do without.
    var steers = true

    init(
        context: DtlsServerContext,
        loops: Int,
        limits: DtlsServerLimits,
        cookieSecrets: DtlsCookieSecrets?,
        admitsAddress: (@Sendable (DtlsAddress) -> Bool)?,
        handshakeFailed: (@Sendable (DtlsAddress, DtlsError) -> Void)?,
        logger: Logger?,
        associations: DtlsSealedAssociations?
    ) throws(DtlsError) {
        try Self.validate(loops: loops)
        try limits.validate()
        self.context = context
        self.limits = limits
        self.admitsAddress = admitsAddress
        self.handshakeFailed = handshakeFailed
        self.logger = logger
        let now = Moment.now
        accepted = AcceptQueue(maximumCount: limits.waitingConnections)
        tally = ServerTally(limits, loops: loops, now: now)
        var fragments = limits.fragmentedHellos
        fragments.messages = (fragments.messages + loops - 1) / loops
        var states: [Lock<ServerEndpoint.State>] = []
        for _ in 0..<loops {
            // Both hellos of a client come to the same loop, so each loop may have a secret of its own.
            let gate = try DtlsHelloGate(limits: fragments, secrets: cookieSecrets, at: now)
            let trials = limits.movedPeerTrials
            let search = trials > 0 ? MovedPeerSearch(trials: trials, now: now) : nil
            states.append(Lock(ServerEndpoint.State(gate: gate, context: context, search: search)))
        }
        self.states = states
        // At last: who imports uses the hand-over up.
        arrivals = try associations.map { sealed throws(DtlsError) in try ServerEndpoint.open(sealed) } ?? []
    }

    /// Undoes the opening of a hand-over, because no server came of it: it may be used for another.
    func giveBack(_ associations: DtlsSealedAssociations?) {
        if let associations { DtlsHandOverKey.giveBack(associations.bytes) }
    }

    private static func validate(loops: Int) throws(DtlsError) {
        guard (1...64).contains(loops) else {
            throw DtlsError(
                .invalidConfiguration,
                phase: .configuration,
                "a server of \(loops) loops cannot be",
                hint: "use 1 to 64, up to one for each core"
            )
        }
        guard loops == 1 || UDPSocket.canShare else {
            throw DtlsError(
                .unsupported,
                phase: .configuration,
                "this system does not spread the peers of a port over several loops",
                hint: "use one loop here; on Linux there may be more"
            )
        }
    }
}
