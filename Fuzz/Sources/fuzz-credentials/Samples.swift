import DTLSCore
import FuzzSupport

/// Things of every kind, and places where what was read is used.
struct Samples {
    let identity: DtlsIdentity
    let session: DtlsSession
    let stored: DtlsStoredSession
    private let ticketClient: DtlsEngineContext
    private let storeServer: DtlsEngineContext
    private let resumingHello: DtlsClientHello
    private let choosingServer: DtlsEngineContext
    private let statusClient: DtlsEngineContext
    private let keyClient: DtlsEngineContext

    private static let key: [UInt8] = Array(1...16)

    init() throws {
        identity = try DtlsIdentity.selfSigned(commonName: "localhost", names: ["localhost"])
        keyClient = try DtlsEngineContext(client: DtlsConfiguration(), usesPreSharedKeys: true)
        ticketClient = keyClient

        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        settings.resumption = .store()
        storeServer = try DtlsEngineContext(server: DtlsConfiguration(), settings: settings)

        settings = DtlsServerSettings()
        settings.choosesIdentity = true
        choosingServer = try DtlsEngineContext(server: DtlsConfiguration(), settings: settings)

        var configuration = DtlsConfiguration()
        configuration.trust = .certificates(identity.certificateChain)
        configuration.stapledStatus = .required
        statusClient = try DtlsEngineContext(client: configuration)

        let first = try Self.connect(try Self.keyEngine(keyClient), storeServer)
        guard let session = first.client.session, let stored = first.stored else { violated("there is no session") }
        self.session = session
        self.stored = stored
        let again = try Self.keyEngine(keyClient)
        require(try again.resume(session), "the session cannot be resumed")
        resumingHello = try Self.hello(of: again)
    }

    private static func keyEngine(_ context: DtlsEngineContext) throws -> DtlsEngine {
        let key = try DtlsPreSharedKey(identity: "device-1", key: Self.key)
        return try DtlsEngine(client: context, serverName: nil, preSharedKey: key)
    }

    // MARK: What is read is used

    func trust(_ certificate: DtlsCertificate) {
        var configuration = DtlsConfiguration()
        configuration.trust = .certificates([certificate])
        _ = try? DtlsEngineContext(client: configuration)
    }

    /// A server that shows this identity to a client that asks for a certificate.
    func serve(_ identity: DtlsIdentity) {
        guard let client = try? DtlsEngine(client: statusClient, serverName: "localhost"),
            let hello = try? Self.hello(of: client),
            let server = try? DtlsEngine(server: choosingServer, hello: hello)
        else { violated("there is no hello") }
        server.start()
        Self.answer(server, identity: identity)
        Self.pass(server, to: client)
    }

    func staple(_ response: [UInt8]) throws {
        var identity = self.identity
        identity.ocspResponse = response
        serve(identity)
    }

    func resumeClient(_ bytes: [UInt8]) throws {
        let session = try DtlsSession(bytes: DtlsSecretBytes(bytes))
        _ = (session.description, session.isExpired)
        let again = try DtlsSession(bytes: session.bytes)
        require(again.bytes == session.bytes, "a session reads as another")
        let client = try Self.keyEngine(ticketClient)
        _ = try client.resume(session)
        let pair = try Self.connect(client, storeServer, session: stored)
        _ = pair.client.session
    }

    func resumeServer(_ bytes: [UInt8]) throws {
        let server = try DtlsEngine(server: storeServer, hello: resumingHello)
        server.start()
        let session = DtlsStoredSession(id: stored.id, contents: DtlsSecretBytes(bytes))
        Self.answer(server, session: session)
    }

    func connectClient(to name: String) throws {
        let client = try DtlsEngine(client: statusClient, serverName: name)
        client.start()
    }

    func connectClient(with key: DtlsPreSharedKey) throws {
        _ = try Self.connect(try DtlsEngine(client: keyClient, serverName: nil, preSharedKey: key), storeServer)
    }

    // MARK: Engines

    /// The second hello of a client, with its cookie.
    private static func hello(of client: DtlsEngine) throws -> DtlsClientHello {
        var gate = try DtlsHelloGate()
        client.start()
        for _ in 0..<2 {
            var datagrams: [[UInt8]] = []
            client.drainOutbound { span in datagrams.append(span.withUnsafeBytes { Array($0) }) }
            for datagram in datagrams {
                switch gate.judge(datagram.span.bytes, from: [1]) {
                case .ignore: break
                case .reply(let reply): client.receive(reply.span.bytes)
                case .accept(let hello): return hello
                }
            }
        }
        violated("the gate did not let a client in")
    }

    /// Answers every question of an engine, and returns the session that it gave.
    @discardableResult
    private static func answer(
        _ engine: DtlsEngine,
        identity: DtlsIdentity? = nil,
        session: DtlsStoredSession? = nil
    ) -> DtlsStoredSession? {
        var established: DtlsStoredSession?
        while let event = engine.nextEvent() {
            switch event {
            case .helloReceived: engine.answer(identity: identity, session: session)
            case .preSharedKeyRequested(.identity): engine.answer(.key(DtlsSecretBytes(key)))
            case .preSharedKeyRequested(.hint): engine.answer(.unknown)
            case .certificatesPresented(let presented):
                _ = presented.verdicts.map(\.description)
                engine.answer(accepted: true)
            case .sessionEstablished(let session): established = session
            case .closed(let reason): _ = reason.description
            case .handshakeFinished, .applicationData: break
            }
        }
        return established
    }

    private static func pass(_ sender: DtlsEngine, to receiver: DtlsEngine) {
        var datagrams: [[UInt8]] = []
        sender.drainOutbound { span in datagrams.append(span.withUnsafeBytes { Array($0) }) }
        for datagram in datagrams { receiver.receive(datagram.span.bytes) }
    }

    private static func connect(
        _ client: DtlsEngine,
        _ context: DtlsEngineContext,
        session: DtlsStoredSession? = nil
    ) throws -> (client: DtlsEngine, stored: DtlsStoredSession?) {
        let server = try DtlsEngine(server: context, hello: try hello(of: client))
        server.start()
        var established: DtlsStoredSession?
        for _ in 0..<6 {
            established = answer(server, session: session) ?? established
            pass(server, to: client)
            answer(client)
            pass(client, to: server)
        }
        return (client, established)
    }
}

// MARK: - PEM

extension Samples {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func pem(_ label: String, _ der: some Collection<UInt8>) -> String {
        var text: [UInt8] = []
        var rest = Array(der)[...]
        while !rest.isEmpty {
            let group = rest.prefix(3)
            rest = rest.dropFirst(3)
            let bits = group.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - group.count))
            for index in 0..<4 {
                text.append(index <= group.count ? alphabet[bits >> (18 - 6 * index) & 63] : UInt8(ascii: "="))
            }
            if text.count % 65 == 64 { text.append(10) }
        }
        return "-----BEGIN \(label)-----\n\(String(decoding: text, as: UTF8.self))\n-----END \(label)-----\n"
    }

    static func der(ofPEM pem: [UInt8]) -> [UInt8] {
        var der: [UInt8] = []
        var bits = 0
        var count = 0
        for line in pem.split(separator: 10) where !line.starts(with: Array("-----".utf8)) {
            for digit in line {
                guard let value = alphabet.firstIndex(of: digit) else { continue }
                bits = (bits << 6 | value) & 0xFF_FFFF
                count += 6
                if count >= 8 {
                    count -= 8
                    der.append(UInt8(bits >> count & 0xFF))
                }
            }
        }
        return der
    }

    static func keyLabel(_ choice: UInt8) -> String {
        ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "DSA PRIVATE KEY"][Int(choice % 4)]
    }

    /// The frame of a list that revokes one certificate; its signature is none.
    static let revocationList: [UInt8] = {
        func tagged(_ tag: UInt8, _ body: [UInt8]) -> [UInt8] {
            [tag] + (body.count < 128 ? [UInt8(body.count)] : [0x81, UInt8(body.count)]) + body
        }
        let algorithm = tagged(0x30, [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02])
        let name = tagged(
            0x30,
            tagged(0x31, tagged(0x30, [0x06, 3, 0x55, 4, 3] + tagged(0x0C, Array("localhost".utf8))))
        )
        let time = tagged(0x17, Array("260101000000Z".utf8))
        let revoked = tagged(0x30, tagged(0x30, [0x02, 1, 5] + time))
        let content = tagged(0x30, [0x02, 1, 1] + algorithm + name + time + time + revoked)
        return tagged(0x30, content + algorithm + tagged(0x03, [0] + [UInt8](repeating: 0x11, count: 70)))
    }()
}
