/// What a connection's messages ask for, whichever interface they came by.
struct Tally {
    private var count = 0
    private var bytes = 0

    enum Answer {
        case none
        /// The message as it came.
        case echo
        case report([UInt8])
    }

    /// Allocates nothing but a report, of which one comes for some thirty messages.
    mutating func take(_ message: RawSpan) -> Answer {
        message.withUnsafeBytes { message in
            switch message.first {
            case nil: return .none
            case UInt8(ascii: "X"):
                count += 1
                bytes += message.count
                return .none
            case UInt8(ascii: "S") where message.count <= 128:
                return .report(Array(message) + " \(count) \(bytes)".utf8)
            default: return .echo
            }
        }
    }
}
