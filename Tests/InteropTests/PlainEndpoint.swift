import DTLS
import Foundation
import Synchronization

/// A plain UDP socket on 127.0.0.1, as a client or a service that knows nothing of DTLS has it.
final class PlainEndpoint: Sendable {
    let address: DtlsAddress
    private let descriptor: Int32
    private let isOpen = Atomic(true)

    /// - Parameter port: 0 for one that the system picks.
    init(port: UInt16 = 0) throws {
        #if canImport(Glibc)
            let type = Int32(SOCK_DGRAM.rawValue)
        #else
            let type = SOCK_DGRAM
        #endif
        let descriptor = socket(AF_INET, type, 0)
        var name = Self.loopback(port)
        let bound = Self.lend(&name) { Foundation.bind(descriptor, $0, $1) }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let named = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard bound == 0, named == 0 else {
            close(descriptor)
            throw PeerFailure(description: "cannot bind to port \(port) (errno \(errno))")
        }
        self.descriptor = descriptor
        address = try DtlsAddress(ipAddress: "127.0.0.1", port: UInt16(bigEndian: name.sin_port))
    }

    deinit { end() }

    /// Closes the socket. Nobody may use it at the same time.
    func end() {
        if isOpen.exchange(false, ordering: .relaxed) { close(descriptor) }
    }

    func send(_ text: String, to port: UInt16) {
        send(Array(text.utf8), to: port)
    }

    func send(_ bytes: [UInt8], to port: UInt16) {
        var name = Self.loopback(port)
        _ = Self.lend(&name) { sendto(descriptor, bytes, bytes.count, 0, $0, $1) }
    }

    /// The next datagram and the port that it came from; nil when none is there.
    func takeNext() -> (bytes: [UInt8], port: UInt16)? {
        var name = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT), $0, &length)
            }
        }
        guard count >= 0 else { return nil }
        return (Array(buffer[..<count]), UInt16(bigEndian: name.sin_port))
    }

    /// Waits for the next datagram.
    func receive(seconds: Double = 10) async throws -> (bytes: [UInt8], port: UInt16) {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < deadline {
            if let next = takeNext() { return next }
            try await Task.sleep(for: .milliseconds(2))
        }
        throw PeerFailure(description: "nothing came to \(address) within \(seconds) seconds")
    }

    /// Waits for the next datagram, as text.
    func receiveText(seconds: Double = 10) async throws -> (text: String, port: UInt16) {
        let (bytes, port) = try await receive(seconds: seconds)
        return (String(decoding: bytes, as: UTF8.self), port)
    }

    /// Sends a text, again and again as clients over UDP do, until `answer` comes from there.
    func ask(_ text: String, at port: UInt16, until answer: String, seconds: Double = 20) async throws {
        let deadline = ContinuousClock.now + .seconds(seconds)
        var last = "nothing"
        while ContinuousClock.now < deadline {
            send(text, to: port)
            guard let (reply, _) = try? await receiveText(seconds: 0.2) else { continue }
            if reply == answer { return }
            last = reply
        }
        throw PeerFailure(description: "no answer \"\(answer)\" to \"\(text)\" within \(seconds) seconds, but \(last)")
    }

    private static func loopback(_ port: UInt16) -> sockaddr_in {
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_port = port.bigEndian
        name.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        #if canImport(Darwin)
            name.sin_len = UInt8(MemoryLayout<sockaddr_in>.size)
        #endif
        return name
    }

    private static func lend<Result>(
        _ name: inout sockaddr_in,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        return withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
