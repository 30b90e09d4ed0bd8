import BenchmarkSupport
import CLoad
import CTwins
import DTLSCore

/// Whoever an endpoint has its associations with, each at an address of its own, all in this process and on one socket.
protocol Peers: AnyObject {
    var count: Int { get }
    /// What ``load_socket()`` has returned.
    var descriptor: Int32 { get }

    func seal(_ payload: [UInt8], at peer: Int, into records: inout [UInt8]) throws
    /// Whether the record is authentic, new and has `payload`.
    func open(_ record: RawSpan, at peer: Int, expecting payload: [UInt8]) throws -> Bool
}

/// The addresses of peers: 127.1.0.0 and up.
enum PeerAddress {
    static let first: UInt32 = 0x7F01_0000

    static func of(_ peer: Int) -> UInt32 { first + UInt32(peer) }
    static func peer(at address: UInt32) -> Int { Int(address) - Int(first) }

    static func text(of peer: Int) -> String {
        [24, 16, 8, 0].map { "\(of(peer) >> $0 & 0xFF)" }.joined(separator: ".")
    }
}

extension Peers {
    var port: UInt16 { load_port(descriptor) }
}

/// The library's engines, without its sockets.
final class EnginePeers: Peers {
    let count: Int
    let descriptor: Int32
    private let context: DtlsEngineContext
    private let key: DtlsPreSharedKey
    private var engines: [DtlsEngine?]
    /// The endpoint's port.
    private var endpoint: UInt16 = 0

    private static let atOnce = 64

    init(_ count: Int, role: DtlsRole, connectionIDs: Bool) throws {
        self.count = count
        let configuration = DtlsConfiguration.ofBenchmark(connectionIDs: connectionIDs)
        switch role {
        case .client:
            context = try DtlsEngineContext(client: configuration, usesPreSharedKeys: true)
        case .server:
            var settings = DtlsServerSettings()
            settings.usesPreSharedKeys = true
            context = try DtlsEngineContext(server: configuration, settings: settings)
        }
        key = try .ofBenchmark()
        engines = Array(repeating: nil, count: count)
        descriptor = load_socket()
        guard descriptor >= 0 else { throw Failure("no socket for the peers") }
    }

    /// Returns when all have. Clients begin, some dozens at a time; servers wait to be spoken to.
    func shakeHands(with port: UInt16) throws {
        endpoint = port
        var started = 0
        var open = 0
        var underWay: Set<Int> = []
        var room = [UInt8](repeating: 0, count: 65_536)
        while open < count {
            while context.role == .client, started < count, underWay.count < Self.atOnce {
                let engine = try DtlsEngine(client: context, serverName: nil, preSharedKey: key)
                engines[started] = engine
                engine.start()
                transmit(engine, of: started)
                underWay.insert(started)
                started += 1
            }
            var at: UInt32 = 0
            var size = load_receive(descriptor, 50, &room, room.count, &at)
            while size >= 0 {
                let peer = PeerAddress.peer(at: at)
                guard (0..<count).contains(peer) else { throw Failure("a datagram came to nobody") }
                let engine = try engines[peer] ?? startServer(peer)
                let wasOpen = engine.isOpen
                engine.receive(room.span.bytes.extracting(0..<size))
                try settle(engine, of: peer)
                if engine.isOpen { underWay.remove(peer) } else { underWay.insert(peer) }
                if engine.isOpen, !wasOpen { open += 1 }
                size = load_receive(descriptor, 0, &room, room.count, &at)
            }
            let now = ContinuousClock.now
            for peer in underWay {
                guard let engine = engines[peer], let deadline = engine.nextDeadline, deadline <= now else { continue }
                engine.handleTimeout(now: now)
                try settle(engine, of: peer)
            }
        }
    }

    private func startServer(_ peer: Int) throws -> DtlsEngine {
        let engine = try DtlsEngine(server: context)
        engines[peer] = engine
        engine.start()
        return engine
    }

    private func settle(_ engine: DtlsEngine, of peer: Int) throws {
        while let event = engine.nextEvent() {
            switch event {
            case .preSharedKeyRequested: engine.answer(.key(key.key))
            case .closed(let reason): throw Failure("a handshake has failed: \(reason)")
            default: break
            }
        }
        transmit(engine, of: peer)
    }

    private func transmit(_ engine: DtlsEngine, of peer: Int) {
        engine.drainOutbound { datagram in
            datagram.withUnsafeBytes { bytes in
                // What is lost is sent again.
                _ = load_send(descriptor, PeerAddress.of(peer), 0x7F00_0001, endpoint, bytes.baseAddress, bytes.count)
            }
        }
    }

    func seal(_ payload: [UInt8], at peer: Int, into records: inout [UInt8]) throws {
        guard let engine = engines[peer] else { throw Failure("no association") }
        try engine.send(payload.span.bytes)
        engine.drainOutbound { record in record.withUnsafeBytes { records.append(contentsOf: $0) } }
    }

    func open(_ record: RawSpan, at peer: Int, expecting payload: [UInt8]) throws -> Bool {
        guard let engine = engines[peer] else { return false }
        engine.receive(record)
        var isRight = false
        while let event = engine.nextEvent() {
            guard case .applicationData = event else { continue }
            engine.drainApplicationData { content in isRight = content.withUnsafeBytes { $0.elementsEqual(payload) } }
        }
        return isRight
    }
}

/// Records in C.
final class TwinPeers: Peers {
    let count: Int
    let descriptor: Int32
    private let lender: OpaquePointer
    private let associations: [OpaquePointer]
    private var room = [UInt8](repeating: 0, count: 2_048)

    init(_ count: Int) throws {
        self.count = count
        descriptor = load_socket()
        guard descriptor >= 0, let lender = twin_records_new(true) else { throw Failure("no socket for the peers") }
        self.lender = lender
        associations = try (0..<UInt32(count)).map { number in
            guard let records = twin_records_share(lender, number) else { throw Failure("no memory for the peers") }
            return records
        }
    }

    func seal(_ payload: [UInt8], at peer: Int, into records: inout [UInt8]) throws {
        guard twin_seal(associations[peer], payload, payload.count, 1, &room, 0) == 1 else {
            throw Failure("the C program has not sealed a payload")
        }
        records.append(contentsOf: room[..<(payload.count + Int(TWIN_RECORD_OVERHEAD))])
    }

    func open(_ record: RawSpan, at peer: Int, expecting payload: [UInt8]) throws -> Bool {
        guard record.byteCount == payload.count + Int(TWIN_RECORD_OVERHEAD) else { return false }
        let isOpened = record.withUnsafeBytes { bytes in
            guard let start = bytes.bindMemory(to: UInt8.self).baseAddress else { return false }
            return twin_open(associations[peer], start, payload.count, 1, 0, &room) == 1
        }
        return isOpened && room[..<payload.count].elementsEqual(payload)
    }
}
