import DTLS
import ExampleSupport

/// A ``Pinger`` with its connection and its clock.
actor PingRun {
    private var pinger: Pinger<SystemRandomNumberGenerator>
    private let connection: DtlsConnection
    private let showsPayload: Bool
    private let clock = ContinuousClock()
    private var timer: Task<Void, Never>?
    private var failure: (any Error)?
    // Ends with the run.
    private let running = AsyncStream.makeStream(of: Never.self)

    init(
        _ settings: Pinger<SystemRandomNumberGenerator>.Settings,
        over connection: DtlsConnection,
        showsPayload: Bool
    ) {
        pinger = Pinger(settings, generator: SystemRandomNumberGenerator())
        self.connection = connection
        self.showsPayload = showsPayload
    }

    /// Pings until all is done or the connection has ended. It is closed then.
    func run() async {
        pinger.start(now: clock.now)
        follow()
        let reader = Task {
            do {
                for try await datagram in connection { receive(datagram) }
                if connection.closeReason != .closedLocally {
                    throw ExampleFailure("the connection was closed \(await connection.waitUntilClosed().summary)")
                }
            } catch {
                fail(error)
            }
            stop()
        }
        for await _ in running.stream {}
        timer?.cancel()
        connection.close()
        await reader.value
    }

    private func stop() { running.continuation.finish() }

    /// What has become of the requests, and what else went wrong.
    var outcome: (tally: Tally, failure: (any Error)?) { (pinger.tally, failure) }

    private func receive(_ datagram: [UInt8]) {
        pinger.receive(datagram, now: clock.now)
        follow()
    }

    private func fail(_ error: any Error) {
        if failure == nil { failure = error }
    }

    /// Does what the pinger wants, and waits for its next deadline.
    private func follow() {
        for output in pinger.takeOutputs() {
            switch output {
            case .send(let datagram): send(datagram)
            case .answered(let answer): show(answer)
            case .unanswered(let sequence, let sent):
                Console.print("no reply: seq=\(sequence), sent \(counted(sent, "time", plural: "times"))")
            }
        }
        timer?.cancel()
        if pinger.isDone { stop() }
        guard let deadline = pinger.nextDeadline else { return }
        timer = Task {
            try? await Task.sleep(until: deadline, clock: clock)
            if !Task.isCancelled { timeOut() }
        }
    }

    private func timeOut() {
        pinger.handleTimeout(now: clock.now)
        follow()
    }

    /// What the socket does not take is lost, as on any link. It will be sent again.
    private func send(_ datagram: [UInt8]) {
        do {
            _ = try connection.trySend(datagram)
        } catch {
            switch error.code {
            // Whoever reads learns why.
            case .connectionClosed: break
            case .socketFailed:
                let reason = escapedForTerminal(error.description.utf8)
                Console.note("dtls-coap-ping: a datagram could not be sent: \(reason)")
            default:
                fail(error)
                stop()
            }
        }
    }

    private func show(_ answer: Pinger<SystemRandomNumberGenerator>.Answer) {
        let message = answer.message
        var parts = ["from \(connection.peerAddress): seq=\(answer.sequence)"]
        parts.append("time=\(Tally.figure(answer.roundTrip, decimals: 3)) ms")
        if answer.sent > 1 { parts.append("sent \(answer.sent) times") }
        let line = parts.joined(separator: " ")
        switch message.kind {
        case .reset: Console.print("Reset \(line)")
        case .acknowledgement where message.code == .empty: Console.print("Acknowledgement \(line)")
        default:
            let size = counted(message.payload.count, "byte", plural: "bytes")
            Console.print("\(message.code), \(size)\(message.hasMoreBlocks ? " and more" : "") \(line)")
        }
        if showsPayload, !message.payload.isEmpty { Console.print(escapedForTerminal(message.payload)) }
    }
}
