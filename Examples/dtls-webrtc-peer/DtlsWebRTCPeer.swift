import ArgumentParser
import DTLSCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

@main
struct DtlsWebRTCPeer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-webrtc-peer",
        abstract: "One side of a WebRTC association: DTLS, SRTP's keys and messages, on a socket of its own.",
        discussion: """
            It makes a certificate, prints the lines of its session description, and wants those of its peer: on standard \
            input (all of them, or up to an empty line), or as --fingerprint and --remote. In two terminals, each \
            with the lines of the other one pasted in:

              dtls-webrtc-peer --setup passive
              dtls-webrtc-peer --setup active

            Both sides show their certificates, and each refuses one with another fingerprint than was announced. Then they \
            agree on an SRTP profile, derive its keys, send each other messages, and close.

            A passive side that knows its peer's address answers it without a cookie, as WebRTC does once ICE has found \
            a path. One that does not takes the first who brings its cookie back.

            The status is 0 when the messages came, 1 when something failed, 64 for wrong usage, 130 and 143 after SIGINT \
            and SIGTERM.
            """
    )

    @Option(help: "Who begins the handshake: active does, passive waits for it.")
    var setup: Setup

    @Option(help: ArgumentHelp("Own address. Numbers only; port 0 is any port.", valueName: "address:port"))
    var bind = "127.0.0.1:0"

    @Option(
        help: ArgumentHelp(
            "The peer's address, instead of its a=candidate. Numbers only.",
            valueName: "address:port"
        ),
        transform: address(argument:)
    )
    var remote: SocketAddress?

    @Option(
        help: ArgumentHelp(
            "The SHA-256 fingerprint of the peer's certificate, as its a=fingerprint has it. Without it the peer's lines are "
                + "read from standard input.",
            valueName: "sha256"
        ),
        transform: fingerprint(argument:)
    )
    var fingerprint: DtlsFingerprint?

    @Option(
        help: ArgumentHelp(
            "SRTP profile to agree on: \(profileNames). Repeatable, in order of preference; the passive side's order wins "
                + "(default: all of them).",
            valueName: "profile"
        ),
        transform: profile(argument:)
    )
    var srtp: [DtlsSRTPProfile] = []

    @Option(
        help: ArgumentHelp(
            "Write the keys of SRTP to a new file, in hexadecimal digits. It is made readable for its owner only.",
            valueName: "file"
        )
    )
    var srtpKeys: String?

    @Option(
        parsing: .unconditionalSingleValue,
        help: ArgumentHelp("Message to send. Repeatable (default: two of them).", valueName: "text")
    )
    var message: [String] = []

    @Option(
        help: ArgumentHelp(
            "Close after so many messages of the peer; 0 leaves it to the peer (default: as many as are sent).",
            valueName: "number"
        )
    )
    var expect: Int?

    @Option(help: ArgumentHelp("For how long to run at the most.", valueName: "seconds"))
    var timeout = 30.0

    func validate() throws {
        if setup == .active, fingerprint != nil, remote == nil {
            throw ValidationError("an active side with --fingerprint needs --remote, too")
        }
        if SocketAddress(bind) == nil {
            throw ValidationError("--bind wants an address such as 127.0.0.1:0 or [::1]:0")
        }
        if let expect, expect < 0 { throw ValidationError("--expect must not be negative") }
        if message.contains("") { throw ValidationError("--message must not be empty: nothing would be sent") }
        if !(0.1...86_400).contains(timeout) { throw ValidationError("--timeout must be from 0.1 to 86400 seconds") }
    }

    func run() throws {
        let keyFile = srtpKeys.map { SRTPKeyFile(path: $0) }
        try keyFile?.check()
        guard let address = SocketAddress(bind) else { return }
        let socket = try UDPSocket(bindTo: address)
        // Nobody has to trust it, only to know it: a new one for each session tells nothing of the one before.
        let identity = try DtlsIdentity.selfSigned(commonName: "WebRTC")
        guard let certificate = identity.certificateChain.first else { return }
        let own = SessionDescription(
            fingerprint: certificate.sha256Fingerprint,
            setup: setup,
            candidate: socket.localAddress
        )
        let interrupts = try Interrupts()
        say(own.lines.joined(separator: "\n"))

        let (pin, remote) = try peer(interrupts)
        var configuration = DtlsConfiguration.webRTC
        configuration.identity = identity
        configuration.trust = .pins([.certificate(pin)])
        // A peer's address is ICE's affair.
        configuration.connectionIDs = .off
        if !srtp.isEmpty { configuration.srtpProfiles = srtp }
        let messages = message.isEmpty ? ["hello from the \(setup.rawValue) side", "nobody else reads this"] : message
        let settings = Peer.Settings(
            setup: setup,
            remote: remote,
            messages: messages,
            expectedMessages: expect ?? messages.count,
            timeout: .seconds(timeout),
            keyFile: keyFile
        )
        try Peer(settings, socket: socket, configuration: configuration).run(interrupts)
    }

    /// Whom to talk to, by the options or by what comes from standard input.
    private func peer(_ interrupts: Interrupts) throws -> (DtlsFingerprint, SocketAddress?) {
        if let fingerprint { return (fingerprint, remote) }
        var lines = InputLines(interrupts)
        let description = try SessionDescription { try lines.next() }
        guard let pin = description.fingerprint else {
            throw PeerError("the peer's a=fingerprint:sha-256 did not come on standard input")
        }
        if description.setup == setup {
            throw PeerError("both sides are \(setup.rawValue), so that the handshake would not begin or begin twice")
        }
        let address = remote ?? description.candidate
        if setup == .active, address == nil { throw PeerError("the peer's a=candidate did not come on standard input") }
        return (pin, address)
    }
}

extension DtlsWebRTCPeer {
    /// Every failure is one line on standard error and a status.
    static func main() {
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch let error as Interruption {
            exit(withError: ExitCode(128 + error.number))
        } catch {
            let isDtlsError = error is DtlsError || error is PeerError
            let status = isDtlsError ? ExitCode.failure : exitCode(for: error)
            guard !status.isSuccess, !(error is ExitCode) else { exit(withError: error) }
            let text =
                switch error {
                case let error as DtlsError: error.description
                case let error as PeerError: error.message
                default: message(for: error).replacing("\n", with: " ")
                }
            let advice = status == .validationFailure ? " (see dtls-webrtc-peer --help)" : ""
            let line = "dtls-webrtc-peer: \(text)\(advice)\n"
            _ = write(STDERR_FILENO, line, line.utf8.count)
            exit(withError: status)
        }
    }
}

// MARK: - Arguments

private func address(argument: String) throws -> SocketAddress {
    guard let address = SocketAddress(argument) else {
        throw ValidationError("no address such as 127.0.0.1:5000 or [::1]:5000")
    }
    return address
}

private func fingerprint(argument: String) throws -> DtlsFingerprint {
    let prefix = "sha-256 "
    let digits = argument.lowercased().hasPrefix(prefix) ? String(argument.dropFirst(prefix.count)) : argument
    guard let fingerprint = DtlsFingerprint(digits) else {
        throw ValidationError("a SHA-256 fingerprint has 64 hexadecimal digits, and may have colons between them")
    }
    return fingerprint
}

private func profile(argument: String) throws -> DtlsSRTPProfile {
    guard let profile = DtlsSRTPProfile.all.first(where: { $0.name == argument.uppercased() }) else {
        throw ValidationError("the profiles are \(profileNames)")
    }
    return profile
}

private var profileNames: String { DtlsSRTPProfile.all.map(\.name).joined(separator: ", ") }
