import DTLSCore
import DTLSPrimitives
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

/// A path that carries less than the configuration says.
final class PathMTUTests: XCTestCase {
    /// What a DTLS 1.2 record of an AES-GCM suite adds to its payload.
    private static let overhead = 37

    /// The system refuses what is larger than 600 bytes: the handshake fits on its retransmission, and later the caller
    /// is told.
    func testDatagramsThatAreTooLarge() async throws {
        try await withDeadline {
            let limit = Lock(600)
            let identity = try TestIdentity.server
            var configuration = DtlsConfiguration.eager
            configuration.trust = try TestIdentity.trust
            configuration.identity = try TestIdentity.client
            let clientContext = try DtlsClientContext(configuration)
            var serving = DtlsConfiguration.lessEager
            serving.identity = identity
            serving.trust = try TestIdentity.trust
            let serverContext = try DtlsServerContext(serving, clientCertificates: .required)
            let server = try await DtlsServer.onLoopback(serverContext)
            let refused = Lock(0)
            let kernel = RefusingKernel { datagram, _ in
                guard datagram.count > limit.withLock({ $0 }) else { return nil }
                refused.withLock { $0 += 1 }
                return .failed(EMSGSIZE)
            }
            let near = try await kernel.connect(to: server.localAddress, context: clientContext)
            let far = try await server.accept()
            XCTAssertGreaterThan(refused.withLock { $0 }, 0, "no flight was too large")
            XCTAssertEqual(near.maximumPayloadSize, 548 - Self.overhead - near.connectionIDOverhead, "the size below")

            limit.withLock { $0 = 400 }
            let error = await failure { try await near.send(Array(repeating: 7, count: near.maximumPayloadSize)) }
            XCTAssertEqual(error?.code, .payloadTooLarge)
            XCTAssertEqual(error?.systemError, EMSGSIZE)
            let maximum = near.maximumPayloadSize
            XCTAssertEqual(maximum, 256 - Self.overhead - near.connectionIDOverhead)
            XCTAssertTrue(error?.hint?.contains("\(maximum) bytes") ?? false, error?.hint ?? "")
            try await near.send(Array(repeating: 7, count: maximum))
            let received = try await far.receive()
            XCTAssertEqual(received?.count, maximum)
            XCTAssertEqual(near.state, .open)
            kernel.close()
            await server.close()
        }
    }

    /// An ICMP message, or the system's word on a datagram that had to wait.
    func testAReportLowersTheMTU() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let kernel = RefusingKernel { _, _ in nil }
            let near = try await kernel.connect(to: server.localAddress)
            let far = try await server.accept()
            let other = try RawSocket().address
            let overhead = 1_200 - near.maximumPayloadSize
            func report(_ peer: DtlsAddress, _ largest: Int?, isLocal: Bool = false) {
                kernel.report(NetworkError(peer: peer, code: EMSGSIZE, isLocal: isLocal, largestDatagram: largest))
            }
            report(other, 700)
            report(server.localAddress, nil)
            XCTAssertEqual(near.maximumPayloadSize, 1_200 - overhead, "it was another's")
            report(server.localAddress, 800)
            XCTAssertEqual(near.maximumPayloadSize, 800 - overhead)
            report(server.localAddress.with(port: 0), 700, isLocal: true)
            XCTAssertEqual(near.maximumPayloadSize, 700 - overhead, "port 0 stands for all of a host's")
            report(server.localAddress, 1_000)
            XCTAssertEqual(near.maximumPayloadSize, 700 - overhead)
            try await near.expectArrival(at: far)
            try await far.expectArrival(at: near)
            kernel.close()
            await server.close()
        }
    }

    /// A forged message takes away no more than every path carries anyway.
    func testICMPMessagesAreBelievedDownToWhatEveryPathCarries() {
        func largest(_ mtu: Int, isIPv4: Bool, isLocal: Bool = false) -> Int? {
            NetworkError.largestDatagram(mtu, isIPv4: isIPv4, isLocal: isLocal)
        }
        XCTAssertEqual(largest(1_400, isIPv4: true), 1_372)
        XCTAssertEqual(largest(1_400, isIPv4: false), 1_352)
        XCTAssertEqual(largest(68, isIPv4: true), 524)
        XCTAssertEqual(largest(68, isIPv4: false), 1_232)
        XCTAssertEqual(largest(296, isIPv4: true, isLocal: true), 268)
        XCTAssertEqual(largest(10, isIPv4: true, isLocal: true), 0)
        XCTAssertNil(largest(0, isIPv4: true))
    }

    func testTheNextSmallerSize() {
        XCTAssertEqual(Association.nextSmaller(than: 1_200, maximum: 1_100), 1_100)
        XCTAssertEqual(Association.nextSmaller(than: 1_200, maximum: nil), 1_024)
        XCTAssertEqual(Association.nextSmaller(than: 1_200, maximum: 1_300), 1_024, "that is no news")
        XCTAssertEqual(Association.nextSmaller(than: 65_507, maximum: nil), 8_972)
        XCTAssertEqual(Association.nextSmaller(than: 300, maximum: nil), 256)
        XCTAssertEqual(Association.nextSmaller(than: 10, maximum: nil), 256)
    }

    /// Nobody waits for the answer to what is sent later.
    func testADatagramThatWaitedAndIsTooLargeIsReported() throws {
        let hasRoom = Lock(false)
        let peer = try DtlsAddress(ipAddress: "127.0.0.1", port: 9)
        let socket = try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0)) { bytes, _ in
            guard hasRoom.withLock({ $0 }) else { return .wouldBlock }
            return bytes.count > 500 ? .failed(EMSGSIZE) : .value(bytes.count)
        }
        let told = Lock(0)
        socket.setErrorHandler { told.withLock { $0 += 1 } }
        for count in [100, 600, 200] {
            let result = [UInt8](repeating: 0, count: count).withUnsafeBytes { socket.send($0, to: peer) }
            XCTAssertEqual(result, .queued)
        }
        hasRoom.withLock { $0 = true }
        XCTAssertTrue(socket.flushBacklog())
        XCTAssertEqual(told.withLock { $0 }, 1)
        let expected = NetworkError(peer: peer, code: EMSGSIZE, isLocal: true, largestDatagram: 599)
        XCTAssertEqual(socket.takeNetworkErrors(), [expected])
        XCTAssertEqual(socket.counters, UDPSocket.Counters(queued: 3, failed: 1, mostQueued: 3))
    }

    #if os(Linux)
        /// The size that Linux tells, for a socket of the caller's that never fragments.
        func testTheSystemsOwnSizeIsTaken() throws {
            let raw = try RawSocket()
            XCTAssertNil(SystemCall.setOption(raw.descriptor, SystemCall.ipv4Level, IP_MTU_DISCOVER, IP_PMTUDISC_DO))
            let socket = try UDPSocket.adopt(descriptor: raw.descriptor, takesOwnership: false)
            let receiver = try RawSocket()
            let bytes = [UInt8](repeating: 0, count: 65_507)
            switch bytes.withUnsafeBytes({ socket.send($0, to: receiver.address) }) {
            case .sent: break  // loopback carries 65,536 bytes
            case .tooLarge(let maximum): XCTAssertNotNil(maximum)
            case let other: XCTFail("\(other)")
            }
        }
    #endif
}
