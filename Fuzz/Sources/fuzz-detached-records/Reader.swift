import FuzzSupport

@testable import DTLSCore

/// What one side has to make of the records that it is given: it knows each authentic one byte for byte, and all
/// numbers that have come.
struct Reader {
    /// How the peer's records look.
    let layout: Layout
    private let windowSize: UInt64
    private let forgeryLimit: UInt64
    /// Whether forged records count by their blocks of 16 bytes.
    private let countsBlocks: Bool
    /// By number, which may be used more than once.
    private var authentic: [UInt64: [(record: [UInt8], inner: (contentType: UInt8, content: [UInt8])?)]] = [:]
    private var seen: Set<UInt64> = []
    private(set) var highest: UInt64
    private(set) var forgeries: UInt64

    /// What a record turns out to be.
    enum Finding {
        case dropped(DtlsDropReason)
        case opened(contentType: UInt8, content: [UInt8], isNewest: Bool)
    }

    /// - Parameters:
    ///   - layout: How the peer's records look.
    ///   - windowSize: What was configured.
    ///   - highest: The highest number that has come.
    ///   - forgeries: How many forged records have come.
    ///   - algorithm: Who says how many are too many.
    init(_ layout: Layout, windowSize: Int, highest: UInt64, forgeries: UInt64, _ algorithm: RecordCipher.Algorithm) {
        self.layout = layout
        self.windowSize = UInt64((windowSize + 63) / 64 * 64)
        self.highest = highest
        self.forgeries = forgeries
        forgeryLimit = algorithm.forgeryLimit
        countsBlocks = algorithm.isCCM
        seen = [0, highest]
    }

    var hasSeenTooManyForgeries: Bool { forgeries >= forgeryLimit }

    /// Takes note of a record that the peer has sealed, or that was sealed with its keys.
    mutating func note(_ record: [UInt8], _ number: UInt64, contentType: UInt8, content: [UInt8]) {
        authentic[number, default: []].append((record, layout.inner(contentType, content)))
    }

    /// Numbers at the edges of what may come.
    func number(near choice: UInt8, next: UInt64) -> UInt64 {
        let last: UInt64 = 1 << 48 - 1
        let step = UInt64(choice & 0x1F)
        func below(_ number: UInt64, _ distance: UInt64) -> UInt64 { number > distance ? number - distance : 0 }
        switch choice >> 5 {
        case 0: return min(last, highest + 1 + step)
        // What shares a place in a window of words of 64 bits.
        case 1: return min(last, highest + 64 * (1 + step))
        case 2: return below(highest, 64 * (1 + step))
        case 3: return below(highest, step)
        case 4: return below(highest + 16, windowSize + step)
        case 5: return min(last, below(next, 8) + step)
        case 6: return step
        default: return below(last, step)
        }
    }

    /// Reads the record at `offset` and goes behind it; `nil` when there is none, and none can follow.
    mutating func next(_ datagram: [UInt8], at offset: inout Int) -> Finding? {
        let start = offset
        guard datagram.count - start >= Wire.recordHeaderSize, datagram[start + 1] == 0xFE else { return nil }
        let hasID = datagram[start] == 25
        let idCount = hasID ? layout.connectionID.count : 0
        guard !hasID || idCount > 0, datagram.count - start >= Wire.recordHeaderSize + idCount else { return nil }
        let body = start + Wire.recordHeaderSize + idCount
        let count = Int(datagram[body - 2]) << 8 | Int(datagram[body - 1])
        guard count <= datagram.count - body else { return nil }
        offset = body + count
        let epoch = Int(datagram[start + 3]) << 8 | Int(datagram[start + 4])
        guard epoch != 0 else { return .dropped(.clearRecordWhenOpen) }
        let isOfPeer =
            layout.connectionID.isEmpty
            ? (20...23).contains(datagram[start])
            : hasID && datagram[(start + 11)..<(body - 2)].elementsEqual(layout.connectionID)
        guard epoch == 1, datagram[start + 2] == 0xFD, isOfPeer, count <= Layout.maximumContent + 2_048 else {
            return .dropped(.improperSealedRecord)
        }
        guard count >= layout.minimumBody else { return .dropped(.undersizedRecord) }
        let number = datagram[(start + 5)..<(start + 11)].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard !seen.contains(number), number > highest || highest - number < windowSize else {
            return .dropped(.unopenedRecord)
        }
        let record = Array(datagram[start..<offset])
        guard let known = authentic[number]?.first(where: { Wire.areSame($0.record, record) }) else {
            forgeries += countsBlocks ? UInt64((count + 15) / 16 + 2) : 1
            return .dropped(.unopenedRecord)
        }
        let isNewest = number > highest
        seen.insert(number)
        highest = max(highest, number)
        // Authentic, and against the protocol all the same: without consequence, except that its number is used up.
        guard let inner = known.inner else { return .dropped(.unopenedRecord) }
        return .opened(contentType: inner.contentType, content: inner.content, isNewest: isNewest)
    }
}
