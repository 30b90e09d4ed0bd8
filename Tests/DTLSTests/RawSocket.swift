import DTLSCore
import Dispatch
import XCTest

@testable import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A plain UDP socket: a stranger, a silent server, or the descriptor that a caller brings along.
final class RawSocket: Sendable {
    let descriptor: Int32
    let address: DtlsAddress

    init(host: String = "127.0.0.1") throws {
        let wanted = try DtlsAddress(ipAddress: host, port: 0)
        let family: UDPSocket.Family = wanted.isIPv4 ? .ipv4 : .ipv6
        descriptor = socket(wanted.isIPv4 ? AF_INET : AF_INET6, SystemCall.datagramType, 0)
        guard descriptor >= 0, let bound = Self.bindAndName(descriptor, wanted, family) else {
            throw TestFailure(description: "no socket on \(host) (errno \(errno))")
        }
        address = bound
    }

    /// A socket that takes datagrams of this one peer's address only.
    init(connectedTo peer: DtlsAddress) throws {
        let family: UDPSocket.Family = peer.isIPv4 ? .ipv4 : .ipv6
        let descriptor = socket(peer.isIPv4 ? AF_INET : AF_INET6, SystemCall.datagramType, 0)
        self.descriptor = descriptor
        guard descriptor >= 0, peer.withSystemAddress(family, { connect(descriptor, $0, $1) }) == 0,
            let name = Self.name(of: descriptor)
        else { throw TestFailure(description: "no socket connected to \(peer) (errno \(errno))") }
        address = name
    }

    deinit { close(descriptor) }

    private static func bindAndName(
        _ descriptor: Int32,
        _ address: DtlsAddress,
        _ family: UDPSocket.Family
    ) -> DtlsAddress? {
        guard address.withSystemAddress(family, { bind(descriptor, $0, $1) }) == 0 else { return nil }
        return name(of: descriptor)
    }

    private static func name(of descriptor: Int32) -> DtlsAddress? {
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard result == 0 else { return nil }
        return withUnsafeBytes(of: &name) { DtlsAddress(systemAddress: .init(rebasing: $0.prefix(Int(length)))) }
    }

    func send(_ bytes: [UInt8], to peer: DtlsAddress) {
        let family: UDPSocket.Family = address.isIPv4 ? .ipv4 : .ipv6
        let sent = peer.withSystemAddress(family) { sendto(descriptor, bytes, bytes.count, 0, $0, $1) }
        XCTAssertEqual(sent, bytes.count, "not sent (errno \(errno))")
    }

    /// Sends to the one peer.
    func send(_ bytes: [UInt8]) {
        let sent = sendTo(descriptor, bytes)
        XCTAssertEqual(sent, bytes.count, "not sent (errno \(errno))")
    }

    /// Connects to one peer, or with nil to none; meanwhile a sender elsewhere is told that nobody listens at the port.
    func connectOnly(to peer: DtlsAddress?) {
        guard let peer else {
            var nobody = sockaddr()
            nobody.sa_family = sa_family_t(AF_UNSPEC)
            _ = connect(descriptor, &nobody, socklen_t(MemoryLayout<sockaddr>.size))
            // Linux takes the port away with the peer when it has picked it.
            _ = address.withSystemAddress(address.isIPv4 ? .ipv4 : .ipv6) { bind(descriptor, $0, $1) }
            return
        }
        let result = peer.withSystemAddress(address.isIPv4 ? .ipv4 : .ipv6) { connect(descriptor, $0, $1) }
        XCTAssertEqual(result, 0)
    }

    /// The next datagram, if one is there.
    func receiveNow() -> (bytes: [UInt8], source: DtlsAddress)? {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var name = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let count = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(descriptor, &buffer, buffer.count, SystemCall.dontWait, $0, &length)
            }
        }
        guard count >= 0 else { return nil }
        let source = withUnsafeBytes(of: &name) { DtlsAddress(systemAddress: .init(rebasing: $0.prefix(Int(length)))) }
        return source.map { (Array(buffer[..<count]), $0) }
    }

    /// Waits for a datagram without a task: only for threads of the test's own.
    func receiveBlocking(milliseconds: Int32 = 5_000) -> [UInt8]? {
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&request, 1, milliseconds) == 1 else { return nil }
        return receiveNow()?.bytes
    }

    /// Waits for a datagram.
    func receive() async throws -> (bytes: [UInt8], source: DtlsAddress) {
        var received: (bytes: [UInt8], source: DtlsAddress)?
        try await eventually("a datagram at \(address)") {
            received = receiveNow()
            return received != nil
        }
        return try XCTUnwrap(received)
    }
}

// At file scope, where `send` still means the system's function.
private func sendTo(_ descriptor: Int32, _ bytes: [UInt8]) -> Int { send(descriptor, bytes, bytes.count, 0) }

/// Runs `body`, which may block, on a thread that Swift's tasks do not need.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        DispatchQueue.global().async { continuation.resume(with: Result(catching: body)) }
    }
}

/// How many descriptors the process has. Not the timers, which are all Dispatch's: it opens one for good when a clock
/// is used for the first time.
func openDescriptors() throws -> Int {
    #if os(Linux)
        try descriptorTargets().values.count { $0 != "anon_inode:[timerfd]" }
    #else
        try descriptorTargets().count
    #endif
}

#if os(Linux)
    /// Which of them are sockets, or wait for some: not what Dispatch opens for itself, for good or for an instant.
    func openSockets() throws -> Set<String> {
        let targets = try descriptorTargets().filter { $1.hasPrefix("socket:") || $1 == "anon_inode:[eventpoll]" }
        return Set(targets.map { "\($0): \($1)" })
    }
#endif

/// The process's descriptors, and what they stand for where the system tells.
private func descriptorTargets() throws -> [String: String] {
    #if os(Linux)
        let path = "/proc/self/fd"
    #else
        let path = "/dev/fd"
    #endif
    guard let directory = opendir(path) else { throw TestFailure(description: "\(path) cannot be read") }
    defer { closedir(directory) }
    var targets: [String: String] = [:]
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        var target = [CChar](repeating: 0, count: 64)
        let length = readlink("\(path)/\(name)", &target, target.count)
        let bytes = target.prefix(max(0, length)).map { UInt8(truncatingIfNeeded: $0) }
        targets[name] = String(decoding: bytes, as: UTF8.self)
    }
    return targets
}

/// The identity of an open socket, which a descriptor that was closed and used again does not share; `nil` when it is
/// closed.
func inode(of descriptor: Int32) -> UInt64? {
    var status = stat()
    return fstat(descriptor, &status) == 0 ? UInt64(status.st_ino) : nil
}

/// Another descriptor of the same socket, for a test to hand over.
func duplicate(_ descriptor: Int32) -> Int32 { dup(descriptor) }

func closeDescriptor(_ descriptor: Int32) { close(descriptor) }
