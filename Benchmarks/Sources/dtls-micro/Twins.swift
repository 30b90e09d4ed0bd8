import BenchmarkSupport
import CTwins
import DTLS

/// Records on bare EVP.
final class RecordTwin {
    private let twin: OpaquePointer
    private let payload = [UInt8](repeating: 0x58, count: 1_200)
    private var records: [UInt8] = []
    private var room = [UInt8](repeating: 0, count: 2_048)

    init(rekeys: Bool) throws {
        guard let twin = twin_records_new(rekeys) else { throw Failure("the C program has no records") }
        self.twin = twin
    }

    deinit { twin_records_free(twin) }

    func seal(_ size: Int) -> (Int) throws -> Double {
        { count in
            var sealed = 0
            let time = cpuTime { sealed = twin_seal(self.twin, self.payload, size, count, &self.room, 0) }
            guard sealed == count else { throw Failure("the C program has not sealed \(count) payloads") }
            return time
        }
    }

    func open(_ size: Int) -> (Int) throws -> Double {
        { count in
            let stride = size + Int(TWIN_RECORD_OVERHEAD)
            if self.records.count < count * stride { self.records = [UInt8](repeating: 0, count: count * stride) }
            let sealed = twin_seal(self.twin, self.payload, size, count, &self.records, stride)
            var opened = 0
            let time = cpuTime { opened = twin_open(self.twin, self.records, size, count, stride, &self.room) }
            guard sealed == count, opened == count else {
                throw Failure("the C program has not opened \(count) records")
            }
            return time
        }
    }
}

/// Handshakes of OpenSSL alone.
final class HandshakeTwin {
    private let twin: OpaquePointer

    init() throws {
        guard let twin = twin_handshakes_new("PSK-AES128-GCM-SHA256") else {
            throw Failure("the C program has no context")
        }
        self.twin = twin
    }

    /// For another thread, with the same contexts.
    init(sharing other: HandshakeTwin) throws {
        guard let twin = twin_handshakes_share(other.twin) else { throw Failure("the C program has no memory") }
        self.twin = twin
    }

    deinit { twin_handshakes_free(twin) }

    func run(_ count: Int) throws -> Double {
        var done = 0
        let time = cpuTime { done = twin_shake_hands(twin, count) }
        guard done == count else { throw Failure("the C program's handshake has failed") }
        return time
    }
}

/// What the server's table of connections is made of, a dictionary whose keys are addresses, beside chains in C.
final class Table {
    private final class Connection {
        let number: Int

        init(_ number: Int) { self.number = number }
    }

    private struct Entry {
        let current: Connection
        let candidate: Connection?
    }

    private var entries: [DtlsAddress: Entry] = [:]
    private let addresses: [DtlsAddress]
    /// Whose datagrams come, in no order.
    private let indices: [UInt32]
    private let twin: OpaquePointer

    init(_ count: Int) throws {
        guard let twin = twin_table_new(count) else { throw Failure("the C program has no table") }
        self.twin = twin
        addresses = try (0..<UInt32(count)).map { index in
            let host = twin_address(index)
            let bytes = [24, 16, 8, 0].map { "\(host >> $0 & 0xFF)" }
            return try DtlsAddress(ipAddress: bytes.joined(separator: "."), port: twin_port(index))
        }
        for (index, address) in addresses.enumerated() {
            entries[address] = Entry(current: Connection(index), candidate: nil)
        }
        var state: UInt64 = 1
        indices = (0..<100_000).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt32((state >> 33) % UInt64(count))
        }
    }

    deinit { twin_table_free(twin) }

    private var expected: UInt64 { indices.reduce(0) { $0 + UInt64($1) } }

    func visit(_ count: Int) throws -> Double {
        // Where a server gets them from is the socket, so that reading them is not counted.
        let visited = indices.prefix(count).map { addresses[Int($0)] }
        var sum = 0
        let time = cpuTime { for address in visited { sum += entries[address]?.current.number ?? 0 } }
        guard UInt64(sum) == expected else { throw Failure("the dictionary has not found \(count) connections") }
        return time
    }

    func visitTwin(_ count: Int) throws -> Double {
        var sum: UInt64 = 0
        let time = cpuTime { sum = twin_table_visit(twin, indices, count) }
        guard sum == expected else { throw Failure("the C program has not found \(count) connections") }
        return time
    }
}
