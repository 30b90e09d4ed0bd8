import ArgumentParser
import DTLS
import ExampleSupport

@main
struct DtlsCoapPing: ExampleCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-coap-ping",
        abstract: "Pings a CoAP server over DTLS, as ping does a host.",
        discussion: """
            Each request is an empty message, which a server answers with a Reset (RFC 7252, section 4.3), or with --get a \
            GET of a resource:

              dtls-coap-ping coaps://localhost --psk sensor-1:secret
              dtls-coap-ping coaps://localhost --psk sensor-1:secret --count 3 \\
                  --get /.well-known/core --show
              dtls-coap-ping 'coaps://[::1]:5684/time' --psk sensor-1:secret
              dtls-coap-ping coaps://device.example --psk id:hex:00ff10 \\
                  --preset iotConstrained

            A request without an answer is sent again after 2 to 3 seconds, then after twice as long, up to 4 times (RFC \
            7252, section 4.2), and given up after --timeout. There is never more than one under way.

            Ctrl-C ends it, with a summary. The status is that of ping: 0 when there was a reply, 1 when there was none, 2 \
            when there was no connection or it did not last. 64 is wrong usage.

            Arguments can be seen by every user of the machine. A real client would read its key from a file.
            """
    )

    static let failureStatus = ExitCode(2)

    @Argument(
        help: ArgumentHelp(
            "The server, as coaps://HOST:PORT (5684 if no port is given). A path in it is got, as with --get.",
            valueName: "uri"
        ),
        transform: coapURI(argument:)
    )
    var uri: CoAPURI

    @Option(
        help: ArgumentHelp(
            "Get this path, such as /.well-known/core, which may have a query. / is the root.",
            valueName: "path"
        ),
        transform: coapPath(argument:)
    )
    var get: [CoAPMessage.Option]?

    @Flag(help: "Print what was got, too.")
    var show = false

    @Option(name: [.short, .long], help: ArgumentHelp("Stop after so many requests.", valueName: "number"))
    var count: Int?

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("From one request to the next one, at least.", valueName: "seconds")
    )
    var interval = 1.0

    @Option(
        help: ArgumentHelp(
            "How long to wait for a reply, retransmissions included, and for the handshake (default: 10; for the handshake "
                + "what --preset says, if it is given).",
            valueName: "seconds"
        )
    )
    var timeout: Double?

    @Option(
        help: ArgumentHelp(
            "How long to wait at least before a request is sent again: ACK_TIMEOUT of RFC 7252.",
            valueName: "seconds"
        )
    )
    var ackTimeout = 2.0

    @OptionGroup
    var credentials: ClientCredentialOptions

    func validate() throws {
        if get != nil, !uri.resource.isEmpty {
            throw ValidationError("--get and a path in the URI say the same thing: give one of them")
        }
        if show, request == .ping {
            throw ValidationError("--show needs something to show: --get, or a path in the URI")
        }
        if let count, count < 1 {
            throw ValidationError("--count must be 1 or more")
        }
        let times = [("--interval", interval), ("--timeout", timeout ?? 10), ("--ack-timeout", ackTimeout)]
        for (name, seconds) in times where !(0.001...86_400).contains(seconds) {
            throw ValidationError("\(name) must be from 0.001 to 86400 seconds")
        }
    }

    func run() async throws {
        let context = try credentials.context(for: "dtls-coap-ping")
        let client = try await DtlsClient.bind()
        let signals = terminationSignals()
        let interruption = Task {
            for await _ in signals {
                await client.close()
                return true
            }
            return false
        }
        let clock = ContinuousClock()
        let start = clock.now
        let connection: DtlsConnection
        do {
            connection = try await connect(client, context)
        } catch {
            await client.close()
            interruption.cancel()
            throw await interruption.value ? ExitCode(1) : error
        }
        let handshake = milliseconds(clock.now - start)
        let origin = escapedForTerminal(uri.origin.utf8)
        let what = request == .ping ? "PING" : "GET"
        Console.print("\(what) \(origin): handshake of \(handshake), \(connection.negotiated.summary)")
        let firstRequest = clock.now
        let run = PingRun(settings, over: connection, showsPayload: show)
        await run.run()
        let (tally, failure) = await run.outcome
        Console.print(tally.summary(of: origin, after: clock.now - firstRequest))
        await client.close()
        interruption.cancel()
        if let failure { throw failure }
        if tally.roundTrips.count == 0 { throw ExitCode(1) }
    }

    private func connect(_ client: DtlsClient, _ context: DtlsClientContext) async throws -> DtlsConnection {
        do {
            return try await client.connect(
                to: uri.host,
                port: uri.port,
                context: context,
                serverName: credentials.serverName,
                timeout: timeout == nil && credentials.connectionOptions.preset != nil ? nil : .seconds(timeout ?? 10)
            )
        } catch {
            throw credentials.withAdvice(error)
        }
    }

    private var request: Pinger<SystemRandomNumberGenerator>.Request {
        guard let resource = get ?? (uri.resource.isEmpty ? nil : uri.resource) else { return .ping }
        // The address of a datagram does not say a name (RFC 7252 §6.4).
        let isAddress = (try? DtlsAddress(ipAddress: uri.host, port: uri.port)) != nil
        let name = CoAPMessage.Option(number: CoAPMessage.Option.uriHost, value: Array(uri.host.utf8))
        return .get((isAddress ? [] : [name]) + resource)
    }

    private var settings: Pinger<SystemRandomNumberGenerator>.Settings {
        var settings = Pinger<SystemRandomNumberGenerator>.Settings()
        settings.request = request
        settings.count = count
        settings.interval = .seconds(interval)
        settings.timeout = .seconds(timeout ?? 10)
        settings.transmission.acknowledgementTimeout = .seconds(ackTimeout)
        return settings
    }
}
