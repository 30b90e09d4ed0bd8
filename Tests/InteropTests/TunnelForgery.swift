import Foundation
import XCTest

/// Sends datagrams from ports that others have.
enum TunnelForgery {
    #if os(Linux)
        private static let type = Int32(SOCK_RAW.rawValue)
        private static let protocolNumber = Int32(IPPROTO_UDP)
    #else
        private static let type = SOCK_RAW
        private static let protocolNumber = IPPROTO_UDP
    #endif

    /// Sends a datagram to a port of 127.0.0.1 from the same port, which takes a raw socket. Skips the test where this
    /// user may have none.
    static func send(_ text: String, fromAndTo port: UInt16) throws {
        let descriptor = socket(AF_INET, type, protocolNumber)
        if descriptor < 0, errno == EPERM || errno == EACCES {
            throw XCTSkip("only root may forge where a datagram comes from")
        }
        guard descriptor >= 0 else { throw PeerFailure(description: "no raw socket (errno \(errno))") }
        defer { close(descriptor) }
        let payload = Array(text.utf8)
        var datagram: [UInt8] = []
        // Source, destination, length, and no checksum.
        for field in [port, port, UInt16(8 + payload.count), 0] {
            datagram += [UInt8(field >> 8), UInt8(truncatingIfNeeded: field)]
        }
        datagram += payload
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        #if canImport(Darwin)
            name.sin_len = UInt8(MemoryLayout<sockaddr_in>.size)
        #endif
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let sent = withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(descriptor, datagram, datagram.count, 0, $0, length)
            }
        }
        guard sent == datagram.count else { throw PeerFailure(description: "not sent (errno \(errno))") }
    }
}
