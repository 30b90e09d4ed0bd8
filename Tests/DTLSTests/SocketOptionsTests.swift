import DTLSCore
import XCTest

@testable import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The outgoing interface and the code point of datagrams.
final class SocketOptionsTests: XCTestCase {
    #if os(Linux)
        private static let loopback = "lo"
    #else
        private static let loopback = "lo0"
    #endif

    func testTheCodePointReachesBothFamilies() throws {
        for dscp in [0, 46, 63] {
            let ipv4 = try UDPSocket.bind(.anyIPv4, options: DtlsSocketOptions(dscp: dscp))
            XCTAssertEqual(SystemCall.option(ipv4.descriptor, SystemCall.ipv4Level, IP_TOS), .value(dscp << 2))
            guard let both = try? UDPSocket.bind(.anyIPv6, options: DtlsSocketOptions(dscp: dscp)) else { continue }
            XCTAssertEqual(SystemCall.option(both.descriptor, SystemCall.ipv6Level, IPV6_TCLASS), .value(dscp << 2))
            #if os(Linux)
                XCTAssertEqual(SystemCall.option(both.descriptor, SystemCall.ipv4Level, IP_TOS), .value(dscp << 2))
            #endif
        }
    }

    func testWhatIsOutOfRangeIsRefused() async {
        let refused = [
            DtlsSocketOptions(dscp: -1), DtlsSocketOptions(dscp: 64), DtlsSocketOptions(interface: ""),
            DtlsSocketOptions(interface: "an-interface-too-long"), DtlsSocketOptions(interface: "lo\0"),
            DtlsSocketOptions(interface: "nosuchif0"), DtlsSocketOptions(interface: "a\nb"),
        ]
        for options in refused {
            let error = await failure { try await DtlsClient.bind(host: "127.0.0.1", options: options) }
            XCTAssertEqual(error?.code, .invalidConfiguration, "\(options)")
            XCTAssertEqual(error?.phase, .binding)
            XCTAssertNotNil(error?.hint)
            XCTAssertFalse(error?.description.contains("\n") ?? true)
        }
    }

    func testASocketOnAnInterfaceServes() async throws {
        try await withDeadline {
            let options = DtlsSocketOptions(interface: Self.loopback, dscp: 34)
            let server = try await DtlsServer.bind(port: 0, context: .preSharedKey(), options: options)
            let client = try await DtlsClient.bind(options: options)
            let near = try await client.connect(
                to: DtlsAddress(ipAddress: "127.0.0.1", port: server.localAddress.port),
                context: .preSharedKey()
            )
            try await near.expectArrival(at: server.accept())
            await client.close()
            await server.close()
        }
    }

    #if os(Linux)
        func testTheInterfaceReachesTheSocket() throws {
            let socket = try UDPSocket.bind(.anyIPv4, options: DtlsSocketOptions(interface: Self.loopback))
            var name = [UInt8](repeating: 0, count: 16)
            var length = socklen_t(name.count)
            XCTAssertEqual(getsockopt(socket.descriptor, SOL_SOCKET, 25, &name, &length), 0)  // SO_BINDTODEVICE
            let unicast = SystemCall.option(socket.descriptor, SystemCall.ipv4Level, 50)  // IP_UNICAST_IF
            let isBound = String(decoding: name.prefix { $0 != 0 }, as: UTF8.self) == Self.loopback
            XCTAssertTrue(isBound || unicast == .value(Int(if_nametoindex(Self.loopback))), "no interface was set")
        }

        /// The way for those who may not bind to a device.
        func testTheInterfaceWithoutPrivileges() throws {
            let index = if_nametoindex(Self.loopback)
            for address in [DtlsAddress.anyIPv4, .anyIPv6] {
                guard let socket = try? UDPSocket.bind(address) else { continue }
                try UDPSocket.use(index, socket.descriptor, socket.family)
                // Read back in network order, as it was set.
                let expected = SystemCall.Outcome.value(Int(Int32(bitPattern: index.bigEndian)))
                XCTAssertEqual(SystemCall.option(socket.descriptor, SystemCall.ipv4Level, 50), expected)
                let receiver = try RawSocket()
                let result = [1].withUnsafeBytes { socket.send($0, to: receiver.address) }
                XCTAssertEqual(result, .sent)
                XCTAssertNotNil(receiver.receiveBlocking())
            }
            XCTAssertThrowsError(try UDPSocket.use(0xFFFF, UDPSocket.bind(.anyIPv4).descriptor, .ipv4)) { error in
                XCTAssertEqual((error as? DtlsError)?.code, .socketFailed)
            }
        }
    #endif
}
