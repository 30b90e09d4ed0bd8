import ExampleSupport

/// What the tunnel says: a line on standard output for what happens to each peer, and a remark on standard error for
/// what may happen to each datagram, once a minute for each kind.
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

    let isQuiet: Bool
    private let nextRemarks = Guarded<[Remark: MonotonicTime]>([:])

    init(isQuiet: Bool) {
        self.isQuiet = isQuiet
    }

    func say(_ line: @autoclosure () -> String) {
        if !isQuiet { Console.print(line()) }
    }

    func remark(_ kind: Remark, _ text: @autoclosure () -> String) {
        guard !isQuiet else { return }
        let now = MonotonicTime.now
        let isDue = nextRemarks.withLock { next in
            guard now >= next[kind, default: now] else { return false }
            next[kind] = now + Self.secondsBetweenRemarks
            return true
        }
        if isDue { Console.note("\(Self.program): \(text())") }
    }

    /// The end of what a remark was about: the next one of its kind is news.
    func over(_ kind: Remark, _ text: @autoclosure () -> String) {
        let wasMade = nextRemarks.withLock { $0.removeValue(forKey: kind) != nil }
        if wasMade, !isQuiet { Console.note("\(Self.program): \(text())") }
    }
}
