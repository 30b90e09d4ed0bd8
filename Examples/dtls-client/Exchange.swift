import DTLS
import ExampleSupport
import Synchronization

/// Messages one way, replies the other way, both at the same time.
struct Exchange {
    /// How an exchange ended.
    struct Outcome {
        /// What ended it; means nothing where all replies came.
        enum End {
            case timeout
            case connectionClosed
            /// This side has closed the connection before all replies were there.
            case interrupted
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
    /// What to do between two messages.
    var interlude: Interlude?

    /// What is done once, after so many replies and before the next message.
    struct Interlude {
        let replies: Int
        let action: @Sendable () async throws -> Void
    }

    /// Sends the messages (nil: the lines of standard input) and hands over each reply as it comes, until there were
    /// enough, the timeout has passed or the connection has ended.
    func run(sending messages: [[UInt8]]?, onReply: ([UInt8]) -> Void) async throws -> Outcome {
        let leavesEarly = messages == nil && wantedReplies != nil
        let progress = Progress(wantedReplies: wantedReplies, leavesEarly: leavesEarly, pausesAfter: interlude?.replies)
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
        return try progress.outcome(isInterrupted: connection.closeReason == .closedLocally)
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
        if let interlude, progress.pausesBeforeMessage() {
            try await waitForReplies(progress, before: interlude)
            try await interlude.action()
        }
        progress.countMessage()
        try await connection.send(message)
    }

    private func waitForReplies(_ progress: Progress, before interlude: Interlude) async throws {
        let haveCome = await withTaskGroup(of: Bool.self) { group in
            group.addTask { await progress.waitForPause() }
            group.addTask { [timeout] in
                try? await Task.sleep(for: timeout, clock: .continuous)
                return false
            }
            defer { group.cancelAll() }
            return await group.next() ?? false
        }
        try Task.checkCancellation()
        guard haveCome else {
            let wanted = counted(interlude.replies, "reply", plural: "replies")
            throw ExampleFailure("fewer than \(wanted) came in time: the client stayed at its port")
        }
    }
}

/// What the sending and the reading half of an exchange know of each other.
private final class Progress: Sendable {
    private struct State {
        var sent = 0
        var received = 0
        var hasSentAll = false
        var hasPaused = false
        var isLate = false
        var failure: (any Error)?
    }

    private let state = Mutex(State())
    private let wantedReplies: Int?
    private let leavesEarly: Bool
    private let pausesAfter: Int?
    // Ends when the replies before the pause have come.
    private let pause = AsyncStream.makeStream(of: Never.self)

    /// - Parameters:
    ///   - leavesEarly: whether enough replies are enough also when not all messages have been sent.
    ///   - pausesAfter: how many replies ``waitForPause()`` waits for.
    init(wantedReplies: Int?, leavesEarly: Bool, pausesAfter: Int?) {
        self.wantedReplies = wantedReplies
        self.leavesEarly = leavesEarly
        self.pausesAfter = pausesAfter
    }

    var wantsReply: Bool {
        state.withLock { state in wantedReplies.map { state.received < $0 } ?? true }
    }

    func countMessage() {
        state.withLock { $0.sent += 1 }
    }

    /// Returns whether this is the time for the pause: true once.
    func pausesBeforeMessage() -> Bool {
        state.withLock { state in
            guard let pausesAfter, !state.hasPaused, max(state.sent, state.received) >= pausesAfter else {
                return false
            }
            state.hasPaused = true
            return true
        }
    }

    /// Returns whether the replies have come; they have not when the task was cancelled before.
    func waitForPause() async -> Bool {
        for await _ in pause.stream {}
        return !Task.isCancelled
    }

    /// Returns whether the exchange is complete.
    func countReply() -> Bool {
        let (received, isDone) = state.withLock { state in
            state.received += 1
            return (state.received, isComplete(state))
        }
        if received == pausesAfter { pause.continuation.finish() }
        return isDone
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

    func outcome(isInterrupted: Bool) throws -> Exchange.Outcome {
        try state.withLock { state in
            if let failure = state.failure {
                throw failure
            }
            let end: Exchange.Outcome.End =
                state.isLate ? .timeout : isInterrupted ? .interrupted : .connectionClosed
            return Exchange.Outcome(end: end, sent: state.sent, received: state.received)
        }
    }

    private func isComplete(_ state: State) -> Bool {
        state.received >= wantedReplies ?? state.sent && (state.hasSentAll || leavesEarly)
    }
}
