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

/// What ICMP messages and the system's own refusals do, and what they must not.
final class NetworkErrorTests: XCTestCase {
    // MARK: Connects

    #if os(Linux)
        /// Without an error queue an unconnected socket is told nothing.
        func testAConnectToAClosedPortFailsAtOnce() async throws {
            try await withDeadline {
                for (bound, host) in [
                    ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::", "::1"),
                ] {
                    guard let closed = try? closedPort(host) else { continue }
                    let client = try await DtlsClient.bind(host: bound)
                    let error = await failure { try await client.connect(to: closed, context: .preSharedKey()) }
                    XCTAssertEqual(error?.code, .peerUnreachable, "from \(bound) to \(host)")
                    XCTAssertEqual(error?.systemError, ECONNREFUSED)
                    XCTAssertEqual(error?.phase, .handshake)
                    XCTAssertTrue(error?.hint?.contains("nobody listens") ?? false)
                    // The next one is not told the news of the last.
                    let server = try await DtlsServer.bind(host: host, port: 0, context: .preSharedKey())
                    let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
                    try await near.expectArrival(at: server.accept())
                    await client.close()
                    await server.close()
                }
            }
        }

        /// One socket, many peers: the error is the one peer's.
        func testARefusalConcernsOnePeerOnly() async throws {
            try await withDeadline {
                let server = try await DtlsServer.onLoopback()
                let client = try await DtlsClient.onLoopback()
                let silent = try RawSocket()
                let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
                let far = try await server.accept()
                let pending = Task { try await client.connect(to: silent.address, context: .preSharedKey()) }
                _ = try await silent.receive()
                for _ in 0..<10 {
                    let closed = try closedPort("127.0.0.1")
                    let error = await failure { try await client.connect(to: closed, context: .preSharedKey()) }
                    XCTAssertEqual(error?.code, .peerUnreachable)
                    try await near.expectArrival(at: far)
                    try await far.expectArrival(at: near)
                }
                pending.cancel()
                let error = await failure { try await pending.value }
                XCTAssertEqual(error?.code, .cancelled, "the silent peer's connect was ended")
                await client.close()
                await server.close()
            }
        }
    #endif

    func testAConnectedSocketIsToldOfAClosedPort() async throws {
        try await withDeadline {
            let closed = try closedPort("127.0.0.1")
            let client = try DtlsClient(socket: connectedDescriptor(to: closed), takesOwnership: true)
            let error = await failure { try await client.connect(to: closed, context: .preSharedKey()) }
            XCTAssertEqual(error?.code, .peerUnreachable)
            XCTAssertEqual(error?.systemError, ECONNREFUSED)
            await client.close()
        }
    }

    /// What the system refuses before anything has left ends a connect at once, if it is for want of a route.
    func testAConnectWithoutARouteFailsAtOnce() async throws {
        try await withDeadline {
            for code in [ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL] {
                let kernel = RefusingKernel { _, _ in .failed(code) }
                let error = await failure { try await kernel.connect(to: RawSocket().address) }
                XCTAssertEqual(error?.code, .peerUnreachable)
                XCTAssertEqual(error?.systemError, code)
                kernel.close()
            }
        }
    }

    /// A firewall's table may be full for a moment, so the handshake goes on.
    func testARefusalByAFirewallMayPass() async throws {
        try await expectConnect { _, index in index == 0 ? .failed(EPERM) : nil }
    }

    func testARefusalByAFirewallBecomesTheReason() async throws {
        try await withDeadline {
            let kernel = RefusingKernel { _, _ in .failed(EPERM) }
            let error = await failure {
                try await kernel.connect(to: RawSocket().address, timeout: .milliseconds(100))
            }
            XCTAssertEqual(error?.code, .peerUnreachable)
            XCTAssertEqual(error?.systemError, EPERM)
            XCTAssertTrue(error?.hint?.contains("firewall") ?? false)
            kernel.close()
        }
    }

    /// A route that is lost in the middle of a handshake may come back.
    func testARouteLostOnTheWayMayComeBack() async throws {
        try await expectConnect { _, index in index == 1 ? .failed(ENETUNREACH) : nil }
    }

    /// A connect succeeds although the system refuses what the rule says.
    private func expectConnect(_ rule: @escaping RefusingKernel.Rule) async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let kernel = RefusingKernel(rule)
            let near = try await kernel.connect(to: server.localAddress)
            try await near.expectArrival(at: server.accept())
            kernel.close()
            await server.close()
        }
    }

    // MARK: Open associations

    /// The peer's port is closed for a while. Both directions, as either side may be the one that is told.
    func testAnAssociationSurvivesItsPeersPortClosing() async throws {
        try await withDeadline {
            let nobody = try RawSocket()
            let (clientSocket, serverSocket) = (try RawSocket(), try RawSocket())
            let server = try DtlsServer(
                socket: duplicate(serverSocket.descriptor),
                takesOwnership: true,
                context: .preSharedKey()
            )
            let client = try DtlsClient(socket: duplicate(clientSocket.descriptor), takesOwnership: true)
            let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
            let far = try await server.accept()
            for (from, to, deaf) in [(near, far, serverSocket), (far, near, clientSocket)] {
                deaf.connectOnly(to: nobody.address)
                for _ in 0..<20 { try await from.send("nobody hears this") }
                // The loop of the sender has taken the errors: it is not woken for them any more.
                try await eventually("the errors are read") { !isReadable(from.readiness) }
                deaf.connectOnly(to: nil)
                try await from.expectArrival(at: to)
                try await to.expectArrival(at: from)
            }
            XCTAssertNil(near.closeReason)
            XCTAssertNil(far.closeReason)
            await client.close()
            await server.close()
        }
    }

    func testRefusalsOfTheSystemAreTypedAndSurvived() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let refusal = Lock<Int32?>(nil)
            let kernel = RefusingKernel { _, _ in refusal.withLock { $0.map { .failed($0) } } }
            let near = try await kernel.connect(to: server.localAddress)
            let far = try await server.accept()
            for code in [EPERM, ENETUNREACH, EHOSTUNREACH, ENETDOWN, EINVAL, ECONNREFUSED] {
                refusal.withLock { $0 = code }
                let error = await failure { try await near.send("refused") }
                XCTAssertEqual(error?.code, .socketFailed)
                XCTAssertEqual(error?.systemError, code)
                XCTAssertEqual(error?.hint != nil, code == EPERM)
                refusal.withLock { $0 = nil }
                try await near.expectArrival(at: far)
            }
            XCTAssertEqual(near.state, .open)
            kernel.close()
            await server.close()
        }
    }

    /// The interface's queue is full: a datagram is lost, as on any other hop, and nobody is told but the counters.
    func testAFullInterfaceLosesADatagram() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let refusal = Lock<Int32?>(nil)
            let kernel = RefusingKernel { _, _ in refusal.withLock { $0.map { .failed($0) } } }
            let near = try await kernel.connect(to: server.localAddress)
            let far = try await server.accept()
            for code in [ENOBUFS, ENOMEM] {
                refusal.withLock { $0 = code }
                try await near.send("lost")
                refusal.withLock { $0 = nil }
                try await near.expectArrival(at: far)
            }
            let counters = near.socketCounters
            XCTAssertEqual(counters.congested, 2)
            XCTAssertEqual(counters.dropped, 2)
            XCTAssertEqual(counters.failed, 0)
            kernel.close()
            await server.close()
        }
    }

    // MARK: A server

    /// A stranger that is gone when the answer comes is one more ICMP message.
    func testFault23AServerGoesOnAfterRefusals() async throws {
        try await withDeadline {
            for host in ["127.0.0.1", "::"] {
                guard let server = try? await DtlsServer.bind(host: host, port: 0, context: .preSharedKey()) else {
                    continue
                }
                let address = try DtlsAddress(ipAddress: "127.0.0.1", port: server.localAddress.port)
                for _ in 0..<50 { try RawSocket().send(HandmadeHello().datagram, to: address) }
                let client = try await DtlsClient.onLoopback()
                let near = try await client.connect(to: address, context: .preSharedKey())
                let far = try await server.accept()
                try await far.expectArrival(at: near)
                try await eventually("the errors are read") { !isReadable(far.readiness) }
                await client.close()
                await server.close()
            }
        }
    }

    // MARK: The socket

    #if os(Linux)
        /// An error that waits is returned by the next call, whatever that is about.
        func testAPendingErrorLosesNoDatagram() throws {
            let (socket, receiver) = (try UDPSocket.bind(.anyIPv4), try RawSocket())
            for connected in [false, true] {
                let closed = try closedPort("127.0.0.1")
                let sent = [1].withUnsafeBytes { socket.send($0, to: closed) }
                XCTAssertEqual(sent, .sent)
                XCTAssertTrue(isReadable(socket.readiness, within: 5_000), "no refusal came back")
                if connected {
                    // Received first.
                    receiver.send([9], to: try DtlsAddress(ipAddress: "127.0.0.1", port: socket.localAddress.port))
                    var buffer = [UInt8](repeating: 0, count: 100)
                    XCTAssertEqual(buffer.withUnsafeMutableBytes { socket.receive(into: $0) }, .retry)
                    guard
                        case .datagram(1, receiver.address, _) = buffer.withUnsafeMutableBytes({
                            socket.receive(into: $0)
                        })
                    else { return XCTFail("the datagram is gone") }
                } else {
                    let result = [1, 2].withUnsafeBytes { socket.send($0, to: receiver.address) }
                    XCTAssertEqual(result, .sent)
                    XCTAssertNotNil(receiver.receiveBlocking())
                }
                let expected = NetworkError(peer: closed, code: ECONNREFUSED, isLocal: false, largestDatagram: nil)
                XCTAssertEqual(socket.takeNetworkErrors(), [expected])
                XCTAssertEqual(socket.takeNetworkErrors(), [])
                XCTAssertFalse(isReadable(socket.readiness), "a loop would spin")
            }
            XCTAssertEqual(socket.counters, UDPSocket.Counters())
        }

        /// Hundreds of peers that are gone.
        func testReportsAreBounded() throws {
            let (socket, receiver) = (try UDPSocket.bind(.anyIPv4), try RawSocket())
            let closed = try closedPort("127.0.0.1")
            for _ in 0..<500 { _ = [1].withUnsafeBytes { socket.send($0, to: closed) } }
            let result = [1].withUnsafeBytes { socket.send($0, to: receiver.address) }
            XCTAssertEqual(result, .sent)
            XCTAssertEqual(socket.takeNetworkErrors().count, UDPSocket.maximumNetworkErrors)
        }
    #endif
}

// MARK: - Helpers

/// An address at which nobody listens.
func closedPort(_ host: String) throws -> DtlsAddress { try RawSocket(host: host).address }

func isReadable(_ descriptor: Int32, within milliseconds: Int32 = 0) -> Bool {
    var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&request, 1, milliseconds) == 1
}

extension DtlsConnection {
    fileprivate var readiness: Int32 { association.owner.loop.socket.readiness }
    fileprivate var socketCounters: UDPSocket.Counters { association.owner.loop.socket.counters }
}

/// A client whose system refuses what the test says, by the datagram and its number, and sends the rest.
final class RefusingKernel: Sendable {
    typealias Rule = @Sendable (_ datagram: [UInt8], _ index: Int) -> SystemCall.Outcome?

    private let state = Lock((count: 0, descriptor: Int32(-1), endpoint: ClientEndpoint?.none))
    private let rule: Rule

    init(_ rule: @escaping Rule) {
        self.rule = rule
    }

    private func endpoint() throws -> ClientEndpoint {
        let socket = try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0)) { [weak self] bytes, address in
            self?.send(bytes, to: address) ?? .failed(EBADF)
        }
        let endpoint = ClientEndpoint(socket: socket, queue: DtlsQueueLimits(), logger: nil)
        state.withLock { state in
            state.descriptor = socket.descriptor
            state.endpoint = endpoint
        }
        return endpoint
    }

    private func send(_ bytes: UnsafeRawBufferPointer, to address: DtlsAddress) -> SystemCall.Outcome {
        let (index, descriptor) = state.withLock { state in
            defer { state.count += 1 }
            return (state.count, state.descriptor)
        }
        if let refusal = rule(Array(bytes), index) { return refusal }
        return address.withSystemAddress(.ipv4) { pointer, length in
            SystemCall.run {
                sendto(descriptor, bytes.baseAddress, bytes.count, SystemCall.sendFlags, pointer, length)
            }
        } ?? .failed(EAFNOSUPPORT)
    }

    func connect(
        to address: DtlsAddress,
        context: DtlsClientContext? = nil,
        timeout: Duration? = nil
    ) async throws -> DtlsConnection {
        let target = ConnectTarget(context: try context ?? .preSharedKey(), serverName: address.host)
        let association = try endpoint().association(with: address, target: target, timeout: timeout)
        defer { association.release() }
        try await association.waitUntilOpen()
        return try XCTUnwrap(association.connection(keepingAlive: nil))
    }

    /// Reports an error, as the loop would.
    func report(_ error: NetworkError) {
        state.withLock { $0.endpoint }?.networkReported(error, now: .now)
    }

    func close() {
        state.withLock { $0.endpoint }?.close()
    }
}
