import DTLS
import Synchronization

/// Messages one way, replies the other way, both at the same time.
struct Exchange {
    /// How an exchange ended.
    struct Outcome {
        /// What ended it; means nothing where all replies came.
        enum End {
            case timeout
            case connectionClosed
        }

        let end: End
        let sent: Int
        let received: Int
    }

    let connection: DtlsConnection
    /// How long to wait for replies after the last message.
    let timeout: Duration
    /// How many replies are enough; nil means one for each message.
    let wantedReplies: Int?

    /// Sends the messages (nil: the lines of standard input) and hands over each reply as it comes, until there were
    /// enough, the timeout has passed or the connection has ended.
    func run(sending messages: [[UInt8]]?, onReply: ([UInt8]) -> Void) async throws -> Outcome {
        let leavesEarly = messages == nil && wantedReplies != nil
        let progress = Progress(wantedReplies: wantedReplies, leavesEarly: leavesEarly)
        // Not a child task: it may hang in a read of standard input when the last reply comes.
        let sender = Task { await send(messages, progress) }
        defer { sender.cancel() }

        for try await reply in connection {
            guard progress.wantsReply else { break }
            onReply(reply)
            if progress.countReply() {
                break
            }
        }
        return try progress.outcome()
    }

    /// Sends everything; then gives the replies their time and closes the connection, which ends the reading.
    private func send(_ messages: [[UInt8]]?, _ progress: Progress) async {
        do {
            if let messages {
                for message in messages {
                    try await send(message, progress)
                }
            } else {
                let lines = StandardInput()
                while let line = try await lines.nextLine(), !Task.isCancelled {
                    if !line.isEmpty {
                        try await send(line, progress)
                    }
                }
            }
            if !progress.finishSending() {
                try await Task.sleep(for: timeout)
                progress.runOutOfTime()
            }
        } catch DtlsError.Code.connectionClosed {
            // Whoever reads learns why.
        } catch {
            progress.fail(error)
        }
        if !Task.isCancelled {
            connection.close()
        }
    }

    private func send(_ message: [UInt8], _ progress: Progress) async throws {
        progress.countMessage()
        try await connection.send(message)
    }
}

/// What the sending and the reading half of an exchange know of each other.
private final class Progress: Sendable {
    private struct State {
        var sent = 0
        var received = 0
        var hasSentAll = false
        var isLate = false
        var failure: (any Error)?
    }

    private let state = Mutex(State())
    private let wantedReplies: Int?
    private let leavesEarly: Bool

    /// - Parameter leavesEarly: whether enough replies are enough also when not all messages have been sent.
    init(wantedReplies: Int?, leavesEarly: Bool) {
        self.wantedReplies = wantedReplies
        self.leavesEarly = leavesEarly
    }

    var wantsReply: Bool {
        state.withLock { state in wantedReplies.map { state.received < $0 } ?? true }
    }

    func countMessage() {
        state.withLock { $0.sent += 1 }
    }

    /// Returns whether the exchange is complete.
    func countReply() -> Bool {
        state.withLock { state in
            state.received += 1
            return isComplete(state)
        }
    }

    /// Returns whether the exchange is complete.
    func finishSending() -> Bool {
        state.withLock { state in
            state.hasSentAll = true
            return isComplete(state)
        }
    }

    func runOutOfTime() {
        state.withLock { $0.isLate = true }
    }

    func fail(_ error: any Error) {
        state.withLock { $0.failure = error }
    }

    func outcome() throws -> Exchange.Outcome {
        try state.withLock { state in
            if let failure = state.failure {
                throw failure
            }
            let end = state.isLate ? Exchange.Outcome.End.timeout : .connectionClosed
            return Exchange.Outcome(end: end, sent: state.sent, received: state.received)
        }
    }

    private func isComplete(_ state: State) -> Bool {
        state.received >= wantedReplies ?? state.sent && (state.hasSentAll || leavesEarly)
    }
}
