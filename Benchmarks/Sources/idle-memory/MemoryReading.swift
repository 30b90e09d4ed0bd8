import BenchmarkSupport
import CMemory

/// What a process's memory comes to, in bytes. It passes from one process to another as lines of text.
struct MemoryReading {
    struct SizeClass {
        var blocks: Int
        var bytes: Int
    }

    var resident: Int
    var allocated: Int
    /// By class, as `CMemory` has them. Empty without a census.
    var census: [SizeClass] = []

    static func now(withCensus: Bool) -> MemoryReading {
        memory_trim()
        var reading = MemoryReading(resident: Int(memory_resident()), allocated: Int(memory_allocated()))
        guard withCensus else { return reading }
        for index in 0..<Int(MEMORY_CLASSES) {
            reading.census.append(
                SizeClass(blocks: Int(memory_class_blocks(index)), bytes: Int(memory_class_bytes(index)))
            )
        }
        return reading
    }

    func write() {
        let counts = census.map { " \($0.blocks) \($0.bytes)" }.joined()
        printLine("memory \(resident) \(allocated)\(counts)")
    }

    init(resident: Int, allocated: Int) {
        self.resident = resident
        self.allocated = allocated
    }

    /// Reads what ``write()`` has written.
    init?(line: String) {
        let fields = line.split(separator: " ")
        let numbers = fields.dropFirst().compactMap { Int($0) }
        guard fields.first == "memory", numbers.count == fields.count - 1, numbers.count >= 2 else { return nil }
        resident = numbers[0]
        allocated = numbers[1]
        for index in stride(from: 2, to: numbers.count - 1, by: 2) {
            census.append(SizeClass(blocks: numbers[index], bytes: numbers[index + 1]))
        }
    }
}
