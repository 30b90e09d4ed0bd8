import DTLSCore

/// The contexts of a client and a server, and how they answer what their engines ask.
final class Scenario {
    private let client: DtlsEngineContext
    private let server: DtlsEngineContext
    private let usesKeys: Bool
    private let keyIsAsked: Bool
    private let usesGate: Bool
    private let session: DtlsSession?
    private let name: String?
    /// How many bytes the Connection IDs have that a client puts into its records, and a server.
    let idCounts: (client: Int, server: Int)
    private var stored: [[UInt8]: DtlsStoredSession] = [:]

    private static let identity = "device-1"
    private static let key: [UInt8] = Array(1...16)

    struct Options {
        var client = DtlsConfiguration()
        var server = DtlsConfiguration()
        var settings = DtlsServerSettings()
        var verification = DtlsServerVerification.chainAndName
        var usesKeys = true
        var keyIsAsked = false
        var asksApplication = false
        var usesGate = false
        var resumes = false
        var idCounts = (client: 0, server: 0)
    }

    init(_ options: Options) throws {
        var options = options
        // OpenSSL's timer reads the clock. It must not run out while an input is under way, whatever else the machine
        // does.
        let patience = DtlsRetransmissionPolicy(initialTimeout: .seconds(60), maximumTimeout: .seconds(60), jitter: 0)
        options.client.retransmission = patience
        options.server.retransmission = patience
        usesKeys = options.usesKeys
        keyIsAsked = options.keyIsAsked
        usesGate = options.usesGate
        name = options.usesKeys ? nil : "localhost"
        idCounts = options.idCounts
        client = try DtlsEngineContext(
            client: options.client,
            usesPreSharedKeys: options.usesKeys,
            verification: options.verification,
            asksApplication: options.asksApplication
        )
        var settings = options.settings
        settings.usesPreSharedKeys = options.usesKeys
        server = try DtlsEngineContext(server: options.server, settings: settings)
        guard options.resumes else {
            session = nil
            return
        }
        let first = try Scenario(client, server, options)
        let pair = try first.pair(now: .now)
        pair.client.start(now: .now)
        pair.server?.start(now: .now)
        pair.pump(now: .now)
        guard let session = pair.client.engine.session else { violated("there is no session to resume") }
        self.session = session
        stored = first.stored
    }

    private init(_ client: DtlsEngineContext, _ server: DtlsEngineContext, _ options: Options) throws {
        self.client = client
        self.server = server
        usesKeys = options.usesKeys
        keyIsAsked = options.keyIsAsked
        usesGate = true
        session = nil
        name = options.usesKeys ? nil : "localhost"
        idCounts = options.idCounts
    }

    /// New engines, which have not started; behind a gate there is no server's engine yet.
    func pair(now: ContinuousClock.Instant) throws -> EnginePair {
        let key = usesKeys && !keyIsAsked ? try DtlsPreSharedKey(identity: Self.identity, key: Self.key) : nil
        let engine = try DtlsEngine(client: client, serverName: name, preSharedKey: key)
        if let session { require(try engine.resume(session), "the session cannot be resumed") }
        return EnginePair(
            client: Peer(engine, answers: self),
            server: usesGate ? nil : try makeServer(nil),
            gate: try DtlsHelloGate(now: now),
            scenario: self
        )
    }

    func makeServer(_ hello: DtlsClientHello?) throws -> Peer {
        Peer(try DtlsEngine(server: server, hello: hello), answers: self)
    }

    func answer(_ question: DtlsEvent, of engine: DtlsEngine, agreeing: Bool, now: ContinuousClock.Instant) {
        switch question {
        case .preSharedKeyRequested(.hint):
            let key = agreeing ? try? DtlsPreSharedKey(identity: Self.identity, key: Self.key) : nil
            engine.answer(key.map { .identityAndKey($0) } ?? .unknown, now: now)
        case .preSharedKeyRequested(.identity(let identity, _)):
            let isKnown = agreeing && identity == Array(Self.identity.utf8)
            engine.answer(isKnown ? .key(DtlsSecretBytes(Self.key)) : .unknown, now: now)
        case .certificatesPresented(let presented):
            _ = (presented.certificates.map(\.description), presented.verdicts.map(\.description))
            engine.answer(accepted: agreeing, now: now)
        case .helloReceived(let offer):
            engine.answer(identity: nil, session: agreeing ? stored[offer.sessionID] : nil, now: now)
        case .handshakeFinished, .applicationData, .closed, .sessionEstablished:
            break
        }
    }

    func keep(_ session: DtlsStoredSession) {
        // Enough for the one that is resumed; an input's own are not kept.
        if stored.isEmpty { stored[session.id] = session }
    }
}

extension Scenario {
    /// How many there are of each kind, in ``all()``, one kind after the other.
    static let kinds = 16

    /// All that inputs choose among, each with all record layers; most use pre-shared keys, which cost a twentieth of
    /// certificates.
    static func all() throws -> [Scenario] {
        let options = try allOptions()
        require(options.count == kinds, "\(options.count) kinds")
        return try layers.flatMap { layer in
            try options.enumerated().map { kind, options in
                var options = options
                layer(&options, kind)
                return try Scenario(options)
            }
        }
    }

    /// Who seals records, and with which Connection IDs, of lengths that differ from kind to kind.
    private static var layers: [(inout Options, Int) -> Void] {
        [
            { options, _ in
                // As configurations begin: the server has one.
                options.idCounts = (client: 8, server: 0)
            },
            { options, kind in
                options.idCounts = (client: 1 + kind, server: 32 - kind)
                options.server.connectionIDs = .random(length: options.idCounts.client)
                options.client.connectionIDs = .random(length: options.idCounts.server)
                options.server.connectionIDs.padding = 1 + 8 * kind
                options.client.connectionIDs.padding = 128 - 8 * kind
            },
            { options, kind in
                // Only the client has one.
                options.idCounts = (client: 0, server: 2 + kind)
                options.server.connectionIDs = .accepted
                options.client.connectionIDs = .random(length: options.idCounts.server)
            },
            { options, _ in
                options.client.connectionIDs = .off
                options.server.connectionIDs = .off
            },
            { options, _ in options.client.recordLayer = .openSSL },
            { options, _ in options.server.recordLayer = .openSSL },
            { options, _ in
                options.client.recordLayer = .openSSL
                options.server.recordLayer = .openSSL
            },
        ]
    }

    private static func allOptions() throws -> [Options] {
        func keys(_ change: (inout Options) throws -> Void = { _ in }) throws -> Options {
            var options = Options()
            try change(&options)
            return options
        }
        func certificates(_ change: (inout Options) throws -> Void = { _ in }) throws -> Options {
            var options = Options()
            options.usesKeys = false
            let identity = try DtlsIdentity.selfSigned(commonName: "localhost", names: ["localhost"])
            options.server.identity = identity
            options.client.trust = .certificates(identity.certificateChain)
            try change(&options)
            return options
        }
        let tickets = try DtlsTicketKeys(secrets: [DtlsSecretBytes([UInt8](repeating: 7, count: 80))])
        return [
            try keys(),
            try keys { $0.keyIsAsked = true },
            try keys { $0.usesGate = true },
            try keys {
                $0.client = .iotConstrained
                $0.server = .iotConstrained
                $0.usesGate = true
            },
            try keys { $0.server.cipherSuites = .suites([.pskWithAES128GCM]) },
            try keys { $0.server.cipherSuites = .suites([.ecdhePSKWithChaCha20Poly1305]) },
            try keys {
                $0.client.cipherSuites = .openSSL("PSK-AES128-CBC-SHA256")
                $0.server.cipherSuites = .openSSL("PSK-AES128-CBC-SHA256")
            },
            try keys {
                $0.settings.resumption = .tickets(tickets)
                $0.usesGate = true
            },
            try keys {
                $0.settings.resumption = .tickets(tickets)
                $0.resumes = true
                $0.usesGate = true
            },
            try keys {
                $0.settings.resumption = .store()
                $0.resumes = true
                $0.usesGate = true
            },
            try keys {
                $0.settings.identityHint = Array("hint".utf8)
                $0.keyIsAsked = true
                $0.client.mtu = 256
                $0.server.mtu = 256
            },
            try certificates(),
            try certificates {
                $0.verification = .byApplication
                $0.asksApplication = true
                $0.client.applicationProtocols = ["coap", "h2"]
                $0.server.applicationProtocols = ["coap"]
            },
            try certificates {
                let identity = try DtlsIdentity.selfSigned(commonName: "client")
                $0.client.identity = identity
                $0.server.trust = .certificates(identity.certificateChain)
                $0.settings.clientCertificates = .required
                $0.settings.asksApplication = true
                $0.client.mtu = 256
                $0.server.mtu = 256
            },
            try certificates {
                $0.client.srtpProfiles = [.aeadAES128GCM]
                $0.server.srtpProfiles = [.aeadAES128GCM]
                $0.settings.choosesIdentity = true
                $0.usesGate = true
            },
            try keys { $0.settings.unknownIdentity = .alert },
        ]
    }
}
