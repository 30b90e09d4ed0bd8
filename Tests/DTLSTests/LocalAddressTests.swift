import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Replies leave from the address that the peer addressed, on sockets that have several.
final class LocalAddressTests: XCTestCase {
    /// A wildcard socket, and addresses of this machine that it is reached at. Where the system has no IPv6, IPv4
    /// alone.
    private static func cases() -> [(bound: String, targets: [String])] {
        #if os(Linux)
            let second = ["127.0.0.2"]
        #else
            // Only Linux has the whole of 127.0.0.0/8 on loopback.
            let second: [String] = []
        #endif
        let hasIPv6 = (try? UDPSocket.bind(.anyIPv6)) != nil
        let ipv4 = ["127.0.0.1"] + second
        return [("0.0.0.0", ipv4)] + (hasIPv6 ? [("::", ipv4 + ["::1"] + linkLocalAddresses())] : [])
    }

    /// A connected socket takes datagrams from the address that it is connected to, and from no other.
    func testRepliesLeaveFromTheAddressThatWasAddressed() async throws {
        try await withDeadline {
            for (bound, targets) in Self.cases() {
                let server = try await DtlsServer.bind(host: bound, port: 0, context: .preSharedKey())
                for target in targets {
                    let address = try DtlsAddress(ipAddress: target, port: server.localAddress.port)
                    let client = try DtlsClient(socket: connectedDescriptor(to: address), takesOwnership: true)
                    let near = try await client.connect(to: address, context: .preSharedKey())
                    let far = try await server.accept()
                    XCTAssertEqual(far.localAddress, address, "bound to \(bound)")
                    XCTAssertEqual(far.peerAddress, client.localAddress)
                    try await near.expectArrival(at: far)
                    try await far.expectArrival(at: near)
                    await client.close()
                }
                XCTAssertEqual(server.localAddress.host, bound)
                await server.close()
            }
        }
    }

    /// Strangers too: the answer with the cookie is the first that a firewall or a connected socket would refuse.
    func testCookiesLeaveFromTheAddressThatWasAddressed() async throws {
        try await withDeadline {
            for (bound, targets) in Self.cases() {
                let server = try await DtlsServer.bind(host: bound, port: 0, context: .preSharedKey())
                for target in targets {
                    let address = try DtlsAddress(ipAddress: target, port: server.localAddress.port)
                    let stranger = try RawSocket(connectedTo: address)
                    stranger.send(HandmadeHello().datagram)
                    let answer = try await stranger.receive()
                    XCTAssertNotNil(WireHello.cookie(in: answer.bytes), "from \(target), bound to \(bound)")
                    XCTAssertEqual(answer.source, address)
                }
                await server.close()
            }
        }
    }

    /// A client learns the address at which it is reached, which the system has picked.
    func testAClientOnAWildcardKnowsItsAddress() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.bind()
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            XCTAssertEqual(near.localAddress, far.peerAddress)
            XCTAssertEqual(near.localAddress.host, "127.0.0.1")
            await client.close()
            await server.close()
        }
    }

    #if os(Linux)
        /// Forged, repeated and junk datagrams in the peer's name do not move the address from which the peer expects
        /// answers; what the peer has sealed does.
        func testOnlyWhatIsAuthenticMovesTheAddress() async throws {
            try await withDeadline {
                let server = try await DtlsServer.bind(host: "0.0.0.0", port: 0, context: .preSharedKey())
                let port = server.localAddress.port
                let (first, second) = try (
                    DtlsAddress(ipAddress: "127.0.0.1", port: port), DtlsAddress(ipAddress: "127.0.0.2", port: port)
                )
                let relay = try Relay(to: first)
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: relay.address, context: .preSharedKey())
                let far = try await server.accept()
                try await near.expectArrival(at: far)
                let sealed = try XCTUnwrap(relay.recorded(.toServer).last)
                var forged = sealed
                forged[forged.count - 1] ^= 1
                let before = far.statistics.datagramsReceived
                for bytes in [HandmadeHello().datagram, sealed, forged, [1, 2, 3]] {
                    relay.inject(bytes, .toServer, at: second)
                }
                // The hello is the gate's.
                try await eventually("they came") { far.statistics.datagramsReceived == before + 3 }
                XCTAssertEqual(far.localAddress, first)
                try await far.expectArrival(at: near)

                relay.rule { [weak relay] datagram in
                    guard datagram.direction == .toServer else { return [datagram.bytes] }
                    relay?.inject(datagram.bytes, .toServer, at: second)
                    return []
                }
                try await near.expectArrival(at: far)
                XCTAssertEqual(far.localAddress, second)
                try await far.expectArrival(at: near)
                await client.close()
                await server.close()
            }
        }
    #endif

    /// An address that the machine has not got any more must not end what it has begun.
    func testASourceThatIsGoneIsLeftToTheSystem() throws {
        let receiver = try RawSocket()
        let socket = try UDPSocket.bind(.anyIPv4)
        let gone = try DtlsAddress(ipAddress: "192.0.2.77", port: socket.localAddress.port)
        let result = [1, 2, 3].withUnsafeBytes { socket.send($0, to: receiver.address, from: gone) }
        XCTAssertEqual(result, .sent)
        XCTAssertNotNil(receiver.receiveBlocking())
        XCTAssertEqual(socket.counters, UDPSocket.Counters())
    }

    /// A caller gets its socket back as it was.
    func testTheCallersSocketGetsItsOptionsBack() throws {
        let raw = try RawSocket(host: "0.0.0.0")
        #if os(Linux)
            let names = [IP_PKTINFO, IP_RECVERR].map { Int32($0) }
        #else
            let names = [Int32(IP_RECVPKTINFO)]
        #endif
        func options() -> [SystemCall.Outcome] {
            names.map { SystemCall.option(raw.descriptor, SystemCall.ipv4Level, $0) }
        }
        let before = options()
        let adopted = try UDPSocket.adopt(descriptor: raw.descriptor, takesOwnership: false)
        XCTAssertFalse(options().contains(.value(0)), "an option was not set")
        adopted.close()
        XCTAssertEqual(options(), before)

        XCTAssertNil(SystemCall.setOption(raw.descriptor, SystemCall.ipv4Level, names[0], 1))
        try UDPSocket.adopt(descriptor: raw.descriptor, takesOwnership: false).close()
        XCTAssertNotEqual(options()[0], .value(0), "the caller's own option was taken back")
    }
}

// MARK: - Helpers

/// The link-local addresses of this machine, with their interfaces; there may be none.
private func linkLocalAddresses() -> [String] {
    var list: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&list) == 0 else { return [] }
    defer { freeifaddrs(list) }
    var found: [String] = []
    var entry = list
    while let current = entry?.pointee {
        entry = current.ifa_next
        guard let address = current.ifa_addr, Int32(address.pointee.sa_family) == AF_INET6 else { continue }
        let bytes = UnsafeRawBufferPointer(start: address, count: MemoryLayout<sockaddr_in6>.size)
        guard let address = DtlsAddress(systemAddress: bytes), address.host.hasPrefix("fe80") else { continue }
        found.append(address.host)
    }
    return found
}

/// A UDP socket connected to one peer.
func connectedDescriptor(to address: DtlsAddress) throws -> Int32 {
    let descriptor = socket(address.isIPv4 ? AF_INET : AF_INET6, SystemCall.datagramType, 0)
    guard address.withSystemAddress(address.isIPv4 ? .ipv4 : .ipv6, { connect(descriptor, $0, $1) }) == 0 else {
        defer { close(descriptor) }
        throw TestFailure(description: "not connected to \(address) (errno \(errno))")
    }
    return descriptor
}
