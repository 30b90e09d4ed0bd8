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
                return .report(report(message))
            default: return .echo
            }
        }
    }

    /// A message, and behind it the two numbers in decimal: without strings, as the C servers do not have them either.
    private func report(_ message: UnsafeRawBufferPointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: message.count + 2 * 20) { report, end in
            UnsafeMutableRawBufferPointer(report).copyMemory(from: message)
            end = message.count
            func append(_ number: Int) {
                report[end] = UInt8(ascii: " ")
                var place = 1
                while number / place >= 10 { place *= 10 }
                while place > 0 {
                    end += 1
                    report[end] = UInt8(ascii: "0") + UInt8(number / place % 10)
                    place /= 10
                }
                end += 1
            }
            append(count)
            append(bytes)
        }
    }
}
