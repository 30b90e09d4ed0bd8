import DTLSCore

/// A Connection ID as a key of a table: looked up for each datagram, hence without memory of its own.
struct ConnectionIDKey: Hashable, Sendable {
    private let words: (UInt64, UInt64, UInt64, UInt64)
    private let count: Int

    /// `nil` for an ID that is empty or longer than there are (``DtlsConnectionIDs``).
    init?(_ id: some Collection<UInt8>) {
        guard (1...32).contains(id.count) else { return nil }
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        withUnsafeMutableBytes(of: &words) { $0.copyBytes(from: id) }
        self.words = words
        count = id.count
    }

    static func == (left: ConnectionIDKey, right: ConnectionIDKey) -> Bool {
        left.count == right.count && left.words == right.words
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(count)
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }
}

/// Values by the Connection ID in the records that are for them.
struct ConnectionIDTable<Value: AnyObject> {
    private var values: [ConnectionIDKey: Value] = [:]
    /// How many IDs there are of each length: a record does not say how long its ID is.
    private var lengths: [Int: Int] = [:]

    func contains(_ id: [UInt8]) -> Bool {
        ConnectionIDKey(id).map { values[$0] != nil } ?? false
    }

    /// Whose record a datagram begins with; `nil` when it begins with none with an ID, or with nobody's.
    func owner(of datagram: UnsafeRawBufferPointer) -> Value? {
        guard DtlsEngine.startsWithConnectionID(datagram) else { return nil }
        for length in lengths.keys where datagram.count >= 11 + length {
            let id = UnsafeRawBufferPointer(rebasing: datagram[11..<(11 + length)])
            if let key = ConnectionIDKey(id), let value = values[key] { return value }
        }
        return nil
    }

    mutating func insert(_ value: Value, for id: [UInt8]) {
        guard let key = ConnectionIDKey(id) else { return }
        if values.updateValue(value, forKey: key) == nil { lengths[id.count, default: 0] += 1 }
    }

    /// Forgets an ID, if it is still the value's.
    mutating func remove(_ value: Value, for id: [UInt8]) {
        guard let key = ConnectionIDKey(id), values[key] === value else { return }
        values[key] = nil
        lengths[id.count] = lengths[id.count].flatMap { $0 > 1 ? $0 - 1 : nil }
    }
}
