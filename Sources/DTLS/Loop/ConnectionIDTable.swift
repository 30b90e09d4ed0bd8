import DTLSCore

/// A Connection ID as a key of a table: looked up for each datagram, hence without memory of its own.
private struct ConnectionIDKey<Words: FixedWidthInteger & Sendable>: Hashable {
    private let words: Words
    private let count: UInt8

    /// Of the ID, in bytes.
    var length: Int { Int(count) }

    /// `nil` for an ID that does not fit.
    init?(_ id: some Collection<UInt8>) {
        guard (1...MemoryLayout<Words>.size).contains(id.count) else { return nil }
        var words = Words.zero
        for byte in id { words = words << 8 | Words(byte) }
        self.words = words
        count = UInt8(truncatingIfNeeded: id.count)
    }
}

/// Values by the Connection ID in the records that are for them.
struct ConnectionIDTable<Value: AnyObject> {
    // Most IDs are short, and a place for a long one takes the more memory.
    private var short: [ConnectionIDKey<UInt64>: Value] = [:]
    private var long: [[UInt8]: Value] = [:]
    /// How many IDs there are of each length: a record does not say how long its ID is. Most often all have one.
    private var lengths: [(length: Int, count: Int)] = []

    private subscript(id: some Collection<UInt8>) -> Value? {
        get { ConnectionIDKey<UInt64>(id).map { short[$0] } ?? long[Array(id)] }
        set {
            if let key = ConnectionIDKey<UInt64>(id) { short[key] = newValue } else { long[Array(id)] = newValue }
        }
    }

    func contains(_ id: [UInt8]) -> Bool { self[id] != nil }

    /// Whose record a datagram begins with; `nil` when it begins with none with an ID, or with nobody's.
    func owner(of datagram: UnsafeRawBufferPointer) -> Value? {
        guard DtlsEngine.startsWithConnectionID(datagram) else { return nil }
        for (length, _) in lengths where datagram.count >= 11 + length {
            if let value = self[UnsafeRawBufferPointer(rebasing: datagram[11..<(11 + length)])] { return value }
        }
        return nil
    }

    mutating func insert(_ value: Value, for id: [UInt8]) {
        guard !id.isEmpty else { return }
        if self[id] == nil { count(id.count, by: 1) }
        self[id] = value
    }

    /// Forgets every ID of a value. Looks at all there are.
    mutating func removeAll(of value: Value) {
        for (key, other) in short where other === value {
            short[key] = nil
            count(key.length, by: -1)
        }
        for (id, other) in long where other === value {
            long[id] = nil
            count(id.count, by: -1)
        }
    }

    private mutating func count(_ length: Int, by step: Int) {
        guard let index = lengths.firstIndex(where: { $0.length == length }) else {
            return lengths.append((length, step))
        }
        lengths[index].count += step
        if lengths[index].count == 0 { lengths.remove(at: index) }
    }

    /// Forgets an ID, if it is still the value's.
    mutating func remove(_ value: Value, for id: [UInt8]) {
        guard !id.isEmpty, self[id] === value else { return }
        self[id] = nil
        count(id.count, by: -1)
    }
}
