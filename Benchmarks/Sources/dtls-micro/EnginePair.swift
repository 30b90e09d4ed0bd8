import BenchmarkSupport
import DTLSCore

/// The library's contexts of both roles, for plain pre-shared keys with AES-128-GCM.
struct Contexts: Sendable {
    let client: DtlsEngineContext
    let server: DtlsEngineContext
    let key: DtlsPreSharedKey

    init() throws {
        key = try DtlsPreSharedKey(identity: "bench", key: Array("a key for tests".utf8) + [0])
        var configuration = DtlsConfiguration()
        configuration.cipherSuites = .suites([.pskWithAES128GCM])
        configuration.mtu = 1_400
        // The C program knows none.
        configuration.connectionIDs = .off
        client = try DtlsEngineContext(client: configuration, usesPreSharedKeys: true)
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        server = try DtlsEngineContext(server: configuration, settings: settings)
    }

    /// Makes two engines and shakes their hands, without a cookie.
    func connect() throws -> (client: DtlsEngine, server: DtlsEngine) {
        let client = try DtlsEngine(client: self.client, serverName: nil, preSharedKey: key)
        let server = try DtlsEngine(server: self.server)
        let now = ContinuousClock.now
        client.start(now: now)
        server.start(now: now)
        for _ in 0..<8 where !client.isOpen || !server.isOpen {
            client.drainOutbound { server.receive($0, now: now) }
            while let event = server.nextEvent() {
                if case .preSharedKeyRequested = event { server.answer(.key(key.key), now: now) }
            }
            server.drainOutbound { client.receive($0, now: now) }
            while client.nextEvent() != nil {}
        }
        guard client.isOpen, server.isOpen else { throw Failure("the library's handshake has failed") }
        return (client, server)
    }
}

/// Handshakes, one after the other.
struct Handshakes: Sendable {
    private let contexts: Contexts

    init() throws { contexts = try Contexts() }

    func run(_ count: Int) throws -> Double {
        try cpuTime { for _ in 0..<count { _ = try contexts.connect() } }
    }
}

/// An association whose client seals, and whose server opens.
final class EnginePair {
    private let client: DtlsEngine
    private let server: DtlsEngine
    private let now = ContinuousClock.now

    init() throws {
        (client, server) = try Contexts().connect()
    }

    /// Seals `count` payloads and has each handed out.
    func seal(_ size: Int, _ count: Int) throws -> Double {
        let payload = [UInt8](repeating: 0x58, count: size)
        var drained = 0
        let time = try cpuTime {
            for _ in 0..<count {
                try client.send(payload.span.bytes)
                client.drainOutbound { drained += $0.byteCount }
            }
        }
        guard drained == count * (size + 37) else { throw Failure("the library has not sealed \(count) payloads") }
        return time
    }

    /// Opens as many records, made before, with all that a server does for each.
    func open(_ size: Int, _ count: Int) throws -> Double {
        let payload = [UInt8](repeating: 0x58, count: size)
        let stride = size + 37
        var records: [UInt8] = []
        records.reserveCapacity(count * stride)
        for _ in 0..<count {
            try client.send(payload.span.bytes)
            client.drainOutbound { record in record.withUnsafeBytes { records.append(contentsOf: $0) } }
        }
        guard records.count == count * stride else { throw Failure("there are not \(count) records to open") }
        var opened = 0
        let time = cpuTime {
            for index in 0..<count {
                server.receive(records.span.bytes.extracting(index * stride..<(index + 1) * stride), now: now)
                while let event = server.nextEvent() {
                    if case .applicationData = event { server.drainApplicationData { opened += $0.byteCount } }
                }
            }
        }
        guard opened == count * size else { throw Failure("the library has not opened \(count) records") }
        return time
    }
}
