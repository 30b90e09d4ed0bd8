import DTLSCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A failure that is told in one line.
struct PeerError: Error {
    let message: String

    init(_ message: String) { self.message = message }
}

/// One side: a socket, an engine, and the loop that keeps both going.
final class Peer {
    struct Settings {
        let setup: Setup
        /// Nil where a passive side takes whoever comes first.
        let remote: SocketAddress?
        let messages: [String]
        /// After how many messages of the peer to close; 0 leaves that to the peer.
        let expectedMessages: Int
        let timeout: Duration
        let keyFile: SRTPKeyFile?
    }

    private let settings: Settings
    private let socket: UDPSocket
    private let context: DtlsEngineContext
    private var gate: DtlsHelloGate
    private var engine: DtlsEngine?
    private var remote: SocketAddress?
    private var received = 0
    private var counts: [PacketKind: Int] = [:]
    private var strangers = 0
    private var outcome: Result<Void, PeerError>?

    /// So many datagrams are read before the time is looked at again.
    private static let datagramsPerTurn = 64

    /// - Parameter configuration: With the own identity, and the peer's fingerprint as the only pin.
    init(_ settings: Settings, socket: UDPSocket, configuration: DtlsConfiguration) throws(DtlsError) {
        self.settings = settings
        self.socket = socket
        remote = settings.remote
        gate = try DtlsHelloGate()
        switch settings.setup {
        case .active:
            context = try DtlsEngineContext(client: configuration)
        case .passive:
            // Both sides of WebRTC show their certificate (RFC 8827 §6.5).
            var server = DtlsServerSettings()
            server.clientCertificates = .required
            context = try DtlsEngineContext(server: configuration, settings: server)
        }
    }

    /// Runs until the association is over.
    ///
    /// - Throws: An ``Interruption`` when a signal came first, or what went wrong.
    func run(_ interrupts: Interrupts) throws {
        let deadline = ContinuousClock.now + settings.timeout
        if settings.setup == .active {
            begin(try DtlsEngine(client: context, serverName: nil, usesIPv6: socket.localAddress.isIPv6))
        }
        while outcome == nil {
            let next = engine?.nextDeadline.map { min($0, deadline) } ?? deadline
            if socket.wait(until: next, orFor: interrupts.descriptor) {
                engine?.close()
                pump()
                printCounts()
                throw interrupts.interruption
            }
            for _ in 0..<Self.datagramsPerTurn {
                guard outcome == nil, let (datagram, source) = socket.receive() else { break }
                try take(datagram, from: source)
            }
            if let due = engine?.nextDeadline, .now >= due {
                engine?.handleTimeout()
                pump()
            }
            if outcome == nil, .now >= deadline { giveUp() }
        }
        printCounts()
        try outcome?.get()
    }

    // MARK: Demultiplexing

    private func take(_ datagram: [UInt8], from source: SocketAddress) throws(DtlsError) {
        let kind = PacketKind(datagram)
        counts[kind, default: 0] += 1
        // An ICE agent would answer STUN, and a media engine open SRTP. Here they are counted.
        guard kind == .dtls else { return }
        guard remote == nil || source == remote else {
            strangers += 1
            return
        }
        if let engine {
            engine.receive(datagram.span.bytes)
        } else if DtlsHelloGate.startsWithClientHello(datagram.span.bytes) {
            try open(datagram, from: source)
        }
        pump()
    }

    /// A passive side meets its first ClientHello.
    private func open(_ datagram: [UInt8], from source: SocketAddress) throws(DtlsError) {
        if remote != nil {
            // Connectivity checks have shown that the peer is there: WebRTC does without a cookie and its round trip.
            begin(try DtlsEngine(server: context, usesIPv6: source.isIPv6))
            engine?.receive(datagram.span.bytes)
            return
        }
        switch gate.judge(datagram.span.bytes, from: source.bytes) {
        case .ignore:
            break
        case .reply(let request):
            socket.send(request.span.bytes, to: source)
        case .accept(let hello):
            remote = source
            begin(try DtlsEngine(server: context, hello: hello, usesIPv6: source.isIPv6))
        }
    }

    // MARK: The association

    private func begin(_ engine: DtlsEngine) {
        engine.handshakeTimeout = settings.timeout
        engine.start()
        self.engine = engine
        pump()
    }

    /// Sends what there is to send, and looks at what has happened.
    private func pump() {
        guard let engine, let remote else { return }
        func flush() {
            engine.drainOutbound { socket.send($0, to: remote) }
        }
        flush()
        while let event = engine.nextEvent() {
            do {
                try handle(event, engine)
            } catch {
                outcome = .failure(error)
                engine.close()
            }
            flush()
        }
    }

    private func handle(_ event: DtlsEvent, _ engine: DtlsEngine) throws(PeerError) {
        switch event {
        case .handshakeFinished(let negotiated):
            try describe(negotiated, engine)
            for message in settings.messages {
                let payload = Array(message.utf8)
                try asPeerError { () throws(DtlsError) in try engine.send(payload.span.bytes) }
                say("sent \"\(printable(message))\"")
            }
        case .applicationData:
            var texts: [String] = []
            engine.drainApplicationData { payload in
                texts.append(payload.withUnsafeBytes { String(decoding: $0, as: UTF8.self) })
            }
            for text in texts {
                received += 1
                say("received \"\(printable(text))\"")
            }
            if settings.expectedMessages > 0, received >= settings.expectedMessages { engine.close() }
        case .closed(let reason):
            // A failure is told at the end.
            if case .failed = reason {} else { say("\(reason)") }
            if outcome == nil { outcome = judge(reason) }
        default:
            // Questions that this context does not ask.
            break
        }
    }

    private func describe(_ negotiated: DtlsNegotiated, _ engine: DtlsEngine) throws(PeerError) {
        let parts = [negotiated.version.description, negotiated.cipherSuite.openSSLName, negotiated.group]
        say("connected to \(remote?.description ?? "nobody"): \(parts.compactMap(\.self).joined(separator: ", "))")
        say("the peer's certificate has the fingerprint that was announced")
        guard negotiated.srtpProfile != nil else { throw PeerError("the peer agrees on no SRTP profile") }
        let (keys, check) = try asPeerError { () throws(DtlsError) in
            (
                try engine.srtpKeys(),
                // Other bytes than the keys, which both sides can derive: it may be shown.
                try engine.exportKeyingMaterial(label: "EXPERIMENTAL-swift-dtls-peer-check", count: 8)
            )
        }
        let size = "a key of \(keys.sendingKey.count) and a salt of \(keys.sendingSalt.count) bytes"
        say("\(keys.profile): \(size) for each direction")
        say("the peer has the same keys if it shows this, too: \(hexadecimal(check))")
        try settings.keyFile?.write(keys, of: context.role)
    }

    // MARK: The end

    private func giveUp() {
        if engine?.isOpen ?? false {
            outcome = .failure(PeerError("\(received) of \(settings.expectedMessages) messages came in time"))
        } else {
            outcome = .failure(PeerError("nobody was there within \(settings.timeout)"))
        }
        engine?.close()
        pump()
    }

    private func judge(_ reason: DtlsCloseReason) -> Result<Void, PeerError> {
        switch reason {
        case .closedLocally, .closedByPeer:
            guard received < settings.expectedMessages else { return .success(()) }
            let wanted = settings.expectedMessages
            return .failure(PeerError("the peer closed after \(received) of \(wanted) messages"))
        case .failed(let error):
            guard error.code == .certificateRejected else { return .failure(PeerError(error.description)) }
            let what =
                error.alertReceived == nil
                ? "the peer's certificate has not the fingerprint that was announced: somebody else may have answered"
                : "the peer refused this side's certificate: it may have been given another fingerprint"
            return .failure(PeerError("\(what) (\(error.description))"))
        default:
            return .failure(PeerError(reason.description))
        }
    }

    private func printCounts() {
        let seen = PacketKind.allCases.compactMap { kind in counts[kind].map { "\($0) \(kind.rawValue)" } }
        let text = seen.isEmpty ? "no packets" : seen.joined(separator: ", ")
        say("came in: \(text)" + (strangers == 0 ? "" : "; \(strangers) DTLS of them from others than the peer"))
    }

    private func asPeerError<Value>(_ body: () throws(DtlsError) -> Value) throws(PeerError) -> Value {
        do {
            return try body()
        } catch {
            throw PeerError(error.description)
        }
    }
}

/// Prints a line, and lets a pipe's other end have it at once.
func say(_ line: String) {
    print(line)
    fflush(nil)
}

/// A peer's text with everything but printable ASCII escaped.
func printable(_ text: String) -> String {
    text.unicodeScalars.map { (" "..."~").contains($0) ? String($0) : $0.escaped(asASCII: true) }.joined()
}
