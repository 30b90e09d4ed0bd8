/// What the tunnel says: a line on standard output for what happens to each peer, and a remark on standard error for
/// what may happen to each datagram, once a minute for each kind. Nobody who says something waits for its reader.
final class Journal: Sendable {
    enum Remark {
        case tooLargeForDtls
        case tooLargeForPlain
        case refused
        case noService
        case tooManyPeers
        case socketFailed
    }

    static let program = "dtls-tunnel"
    private static let secondsBetweenRemarks = 60.0
    /// For the last lines, whose reader may have stopped.
    private static let secondsAtTheEnd = 1.0

    let isQuiet: Bool
    private let lines = LineWriter()
    private let nextRemarks = Guarded<[Remark: MonotonicTime]>([:])

    init(isQuiet: Bool) {
        self.isQuiet = isQuiet
    }

    func say(_ line: @autoclosure () -> String) {
        if !isQuiet { lines.write(line(), to: .output) }
    }

    func remark(_ kind: Remark, _ text: @autoclosure () -> String) {
        guard !isQuiet else { return }
        let now = MonotonicTime.now
        let isDue = nextRemarks.withLock { next in
            guard now >= next[kind, default: now] else { return false }
            next[kind] = now + Self.secondsBetweenRemarks
            return true
        }
        if isDue { lines.write("\(Self.program): \(text())", to: .errors) }
    }

    /// The end of what a remark was about: the next one of its kind is news.
    func over(_ kind: Remark, _ text: @autoclosure () -> String) {
        let wasMade = nextRemarks.withLock { $0.removeValue(forKey: kind) != nil }
        if wasMade, !isQuiet { lines.write("\(Self.program): \(text())", to: .errors) }
    }

    /// Prints `line` every so many seconds, quiet or not, until the task is cancelled.
    func printStatistics(every seconds: Double?, _ line: @escaping @Sendable () -> String) -> Task<Void, Never> {
        Task { [lines] in
            guard let seconds else { return }
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(seconds), clock: .continuous)
                if !Task.isCancelled { lines.write(line(), to: .output) }
            }
        }
    }

    /// Returns when everything that was said is written, or after a second. To be called before the program ends.
    func finish() {
        lines.finish(within: Self.secondsAtTheEnd)
    }
}
