import BenchmarkSupport
import CLoad
import DTLS
import DTLSCore
import Dispatch
import Glibc

/// Who receives, in a process of its own: makes the handshake with one client, and from then on counts datagrams,
/// whoever sends them, without a look into them.
enum Sink {
    /// What this program's first argument is then.
    static let word = "sink"

    static func run() async throws {
        let descriptor = load_sink()
        guard descriptor >= 0 else { throw Failure("no socket to receive on") }
        let lines = inputLines()
        printLine("port \(load_port(descriptor))")
        try shakeHands(descriptor)
        // For the rest of the process.
        DispatchQueue.global().async { load_drain(descriptor) }
        for await _ in lines {
            // What is still in the socket belongs to it.
            var count: UInt64
            repeat {
                count = load_drained()
                try await Task.sleep(for: .milliseconds(10))
            } while load_drained() != count
            printLine("arrived \(count)")
        }
    }

    private static func shakeHands(_ descriptor: Int32) throws {
        var settings = DtlsServerSettings()
        settings.usesPreSharedKeys = true
        let context = try DtlsEngineContext(server: .ofBenchmark(), settings: settings)
        let engine = try DtlsEngine(server: context)
        let key = try DtlsPreSharedKey.ofBenchmark()
        var room = [UInt8](repeating: 0, count: 65_536)
        var peer = sockaddr_storage()
        engine.start()
        while !engine.isOpen {
            let count = withUnsafeMutableBytes(of: &peer) { name in
                var length = socklen_t(name.count)
                return recvfrom(
                    descriptor,
                    &room,
                    room.count,
                    0,
                    name.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                    &length
                )
            }
            guard count >= 0 else { throw Failure("the handshake's datagrams cannot be read") }
            // What is lost is sent again by the client.
            engine.receive(room.span.bytes.extracting(0..<count))
            while let event = engine.nextEvent() {
                if case .preSharedKeyRequested = event { engine.answer(.key(key.key)) }
            }
            engine.drainOutbound { datagram in
                datagram.withUnsafeBytes { bytes in
                    withUnsafeBytes(of: &peer) { name in
                        _ = sendto(
                            descriptor,
                            bytes.baseAddress,
                            bytes.count,
                            0,
                            name.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                            socklen_t(MemoryLayout<sockaddr_in>.size)
                        )
                    }
                }
            }
        }
    }
}
