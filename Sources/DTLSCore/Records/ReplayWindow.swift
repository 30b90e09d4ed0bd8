/// Which of a peer's sequence numbers have come (RFC 6347 §4.1.2.6, RFC 6479).
///
/// A number counts as come only when its record has been opened: ``permits(_:)`` before, ``accept(_:)`` after.
struct ReplayWindow {
    /// How many numbers below the highest one are told apart: a multiple of 64.
    let size: Int

    /// The highest number that has come, and one more; 0 when none has.
    private(set) var next: UInt64 = 0

    // Of the number n, bit n % 64: in `recent` where the window is one word, else in `words`, of which there is one
    // more than the window has, so that a new one can be begun while all of the window is kept (RFC 6479).
    private var recent: UInt64 = 0
    private var words: [UInt64] = []

    static let sizes = 64...16_384

    /// - Parameter size: Rounded up to a multiple of 64, and into ``sizes``.
    init(size: Int = 64) {
        let words = (Swift.min(Swift.max(size, Self.sizes.lowerBound), Self.sizes.upperBound) + 63) / 64
        self.size = words * 64
        if words > 1 { self.words = [UInt64](repeating: 0, count: words + 1) }
    }

    /// Goes on where another window was.
    ///
    /// - Parameter contents: As that one's ``contents`` were.
    init?(next: UInt64, contents: [UInt64]) {
        guard next <= 1 << 48, contents.count == 1 || (3...Self.sizes.upperBound / 64 + 1).contains(contents.count)
        else {
            return nil
        }
        self.next = next
        if contents.count == 1 {
            size = 64
            recent = contents[0]
        } else {
            size = (contents.count - 1) * 64
            words = contents
        }
    }

    /// Which numbers have come, in a form of its own.
    var contents: [UInt64] { words.isEmpty ? [recent] : words }

    /// Whether a record with this number may be opened: it has not come, and is not too old to know.
    func permits(_ number: UInt64) -> Bool {
        guard number < next else { return true }
        let age = next - 1 - number
        guard age < UInt64(size) else { return false }
        guard !words.isEmpty else { return recent & (1 << age) == 0 }
        return words[slot(number)] & bit(number) == 0
    }

    /// Whether nothing newer has come.
    func isNewest(_ number: UInt64) -> Bool { number >= next }

    /// Takes note of an authentic record.
    mutating func accept(_ number: UInt64) {
        guard permits(number) else { return }
        guard !words.isEmpty else {
            if number >= next {
                let advance = number - next + 1
                recent = advance < 64 ? recent << advance | 1 : 1
                next = number + 1
            } else {
                recent |= 1 << (next - 1 - number)
            }
            return
        }
        if number >= next {
            let newWords = Swift.min(number / 64 - (next == 0 ? 0 : (next - 1) / 64), UInt64(words.count))
            for step in 0..<newWords { words[slot(number - step * 64)] = 0 }
            next = number + 1
        }
        words[slot(number)] |= bit(number)
    }

    private func slot(_ number: UInt64) -> Int { Int(number / 64 % UInt64(words.count)) }
    private func bit(_ number: UInt64) -> UInt64 { 1 << (number % 64) }
}
