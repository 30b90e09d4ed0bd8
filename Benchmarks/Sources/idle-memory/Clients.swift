import BenchmarkSupport
import DTLSCore
import Glibc

/// Clients that come, have one datagram echoed and are gone without a word, some dozens at a time.
///
/// Each has an address of its own in 127.0.0.0/8, so that the server never takes one for another that starts anew.
struct Clients {
    private let context: DtlsEngineContext
    private let port: UInt16
    private var made = 0

    private static let atOnce = 32

    init(suite: Suite, connectionIDs: Bool, port: UInt16) throws {
        var configuration = suite.configuration
        if !connectionIDs { configuration.connectionIDs = .off }
        context = try DtlsEngineContext(client: configuration, usesPreSharedKeys: true)
        self.port = port
    }

    /// Returns once so many more have their echo.
    mutating func connect(_ count: Int) throws {
        var clients: [Client] = []
        var remaining = count
        while remaining > 0 || !clients.isEmpty {
            while remaining > 0, clients.count < Self.atOnce {
                clients.append(try Client(context, number: made, port: port))
                made += 1
                remaining -= 1
            }
            var requests = clients.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
            poll(&requests, nfds_t(requests.count), 100)
            let now = ContinuousClock.now
            for (client, request) in zip(clients, requests) {
                if request.revents != 0 { try client.receive(now: now) }
                try client.handleTimeout(now: now)
            }
            clients.removeAll { $0.isDone }
        }
    }
}

private final class Client {
    let descriptor: Int32
    private(set) var isDone = false
    private let engine: DtlsEngine
    private let startedAt = ContinuousClock.now

    init(_ context: DtlsEngineContext, number: Int, port: UInt16) throws {
        engine = try DtlsEngine(client: context, serverName: nil, preSharedKey: .ofBenchmark())
        descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        // 127.1.0.0 and up.
        guard bind(0x7F01_0000 + UInt32(number), port: 0, with: Glibc.bind),
            bind(0x7F00_0001, port: port, with: Glibc.connect)
        else { throw Failure("no socket for client \(number) (errno \(errno))") }
        engine.start()
        try settle()
    }

    deinit { close(descriptor) }

    private func bind(
        _ address: UInt32,
        port: UInt16,
        with call: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Bool {
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = address.bigEndian
        name.sin_port = port.bigEndian
        return withUnsafeBytes(of: &name) { bytes in
            guard let start = bytes.baseAddress else { return false }
            return call(descriptor, start.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count)) == 0
        }
    }

    func receive(now: ContinuousClock.Instant) throws {
        try withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { buffer in
            while true {
                let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
                guard count >= 0 else { break }
                let datagram = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count])
                engine.receive(datagram.bytes, now: now)
                try settle()
            }
        }
    }

    func handleTimeout(now: ContinuousClock.Instant) throws {
        if let deadline = engine.nextDeadline, deadline <= now {
            engine.handleTimeout(now: now)
            try settle()
        }
        if !isDone, now - startedAt > .seconds(60) { throw Failure("a client has no echo after a minute") }
    }

    private func settle() throws {
        transmit()
        while let event = engine.nextEvent() {
            switch event {
            case .handshakeFinished:
                try engine.send([UInt8](repeating: 0x2A, count: 32).span.bytes)
                transmit()
            case .applicationData:
                isDone = true
            case .closed(let reason):
                throw Failure("a client failed: \(reason)")
            default:
                break
            }
        }
    }

    private func transmit() {
        engine.drainOutbound { datagram in
            datagram.withUnsafeBytes { bytes in
                // What is lost is sent again.
                _ = Glibc.send(descriptor, bytes.baseAddress, bytes.count, 0)
            }
        }
    }
}
