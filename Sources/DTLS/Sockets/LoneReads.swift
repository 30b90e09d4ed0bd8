/// Whether to read one message alone: recvmmsg(2) looks for another one behind it, which costs a lone one half of what
/// reading it does.
struct LoneReads {
    /// How many more to read alone before it is seen again how many there are.
    private var rest = 0

    private static let patience = 15

    /// Whether the next one is likely to be the only one.
    mutating func isLikely() -> Bool {
        guard rest > 0 else { return false }
        rest -= 1
        return true
    }

    /// How many there were when as many were read as there were.
    mutating func found(_ count: Int) { rest = count == 1 ? Self.patience : 0 }
}
