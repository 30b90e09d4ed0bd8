import DTLSCore
import Dispatch
import Synchronization
import XCTest

@testable import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

// MARK: - Addresses and options

final class DtlsAddressTests: XCTestCase {
    func testLiteralsArePrintedInTheirShortForm() throws {
        let cases = [
            ("127.0.0.1", "127.0.0.1", "127.0.0.1:5684"),
            ("255.255.255.255", "255.255.255.255", "255.255.255.255:5684"),
            ("::1", "::1", "[::1]:5684"),
            ("::", "::", "[::]:5684"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1", "[2001:db8::1]:5684"),
            ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1:5684"),
            ("::ffff:c000:201", "192.0.2.1", "192.0.2.1:5684"),
            ("fe80::1%2", "fe80::1%2", "[fe80::1%2]:5684"),
        ]
        for (text, host, description) in cases {
            let address = try DtlsAddress(ipAddress: text, port: 5684)
            XCTAssertEqual(address.host, host)
            XCTAssertEqual(address.description, description)
            XCTAssertEqual(address.port, 5684)
            XCTAssertEqual(try DtlsAddress(ipAddress: host, port: 5684), address, "\(text) does not survive its text")
        }
    }

    func testAMappedAddressIsTheIPv4Address() throws {
        let plain = try DtlsAddress(ipAddress: "192.0.2.1", port: 1)
        let mapped = try DtlsAddress(ipAddress: "::ffff:192.0.2.1", port: 1)
        XCTAssertEqual(plain, mapped)
        XCTAssertEqual(Set([plain, mapped]).count, 1)
        XCTAssertTrue(mapped.isIPv4)
        XCTAssertFalse(mapped.isIPv6)
        XCTAssertTrue(try DtlsAddress(ipAddress: "::1", port: 1).isIPv6)
    }

    func testAddressPortAndZoneAreAllCompared() throws {
        let addresses = try [
            DtlsAddress(ipAddress: "fe80::1", port: 1), DtlsAddress(ipAddress: "fe80::1", port: 2),
            DtlsAddress(ipAddress: "fe80::2", port: 1), DtlsAddress(ipAddress: "fe80:1::1", port: 1),
            DtlsAddress(ipAddress: "fe80::1%3", port: 1), DtlsAddress(ipAddress: "fe80::1%4", port: 1),
        ]
        XCTAssertEqual(Set(addresses).count, addresses.count)
    }

    func testAZoneMayBeAnInterfaceName() throws {
        let interface = try XCTUnwrap(if_nameindex())
        defer { if_freenameindex(interface) }
        let name = try String(cString: XCTUnwrap(interface.pointee.if_name))
        let address = try DtlsAddress(ipAddress: "fe80::1%\(name)", port: 7)
        XCTAssertEqual(address.host, "fe80::1%\(interface.pointee.if_index)")
    }

    func testTextThatIsNoAddressIsRefused() {
        let texts = [
            "", " ", "localhost", "127.1", "1.2.3.4:5", "[::1]", "1.2.3.256", "::1%", "::1%1", "fe80::1%nosuchif", "%1",
            "127.0.0.1\0.example.org", "::1\0",
        ]
        for text in texts {
            XCTAssertThrowsError(try DtlsAddress(ipAddress: text, port: 1), text) { error in
                XCTAssertEqual((error as? DtlsError)?.code, .invalidConfiguration, text)
                XCTAssertNotNil((error as? DtlsError)?.hint)
            }
        }
    }

    func testAnErrorDoesNotRepeatControlCharacters() {
        XCTAssertThrowsError(try DtlsAddress(ipAddress: "a\u{1B}[2J\n\u{202E}b", port: 1)) { error in
            let message = (error as? DtlsError)?.message ?? ""
            XCTAssertTrue(message.contains(#"'a\u{1b}[2J\u{a}\u{202e}b'"#), message)
        }
    }

    func testTheSystemsFormAndBackIsTheSameAddress() throws {
        for text in ["192.0.2.1", "2001:db8::1", "fe80::1%2"] {
            let address = try DtlsAddress(ipAddress: text, port: 0x1234)
            let back = address.withSystemAddress(.ipv6) { pointer, length in
                DtlsAddress(systemAddress: UnsafeRawBufferPointer(start: pointer, count: Int(length)))
            }
            XCTAssertEqual(back, address)
        }
        let ipv4 = try DtlsAddress(ipAddress: "192.0.2.1", port: 0x1234)
        let short = ipv4.withSystemAddress(.ipv4) { pointer, length in
            (
                DtlsAddress(systemAddress: UnsafeRawBufferPointer(start: pointer, count: Int(length))),
                DtlsAddress(systemAddress: UnsafeRawBufferPointer(start: pointer, count: Int(length) - 1))
            )
        }
        XCTAssertEqual(short?.0, ipv4)
        XCTAssertNil(short?.1 as Any?, "an address that is cut short was read")
        let ipv6 = try DtlsAddress(ipAddress: "::1", port: 1)
        XCTAssertNil(ipv6.withSystemAddress(.ipv4) { _, _ in true })
    }

    func testCookieBytesHoldAddressAndPort() throws {
        var bytes: [UInt8] = [9]
        try DtlsAddress(ipAddress: "192.0.2.1", port: 0x1234).appendBytes(to: &bytes)
        XCTAssertEqual(bytes, [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 1, 0x12, 0x34])
        XCTAssertEqual(bytes.count, 1 + DtlsAddress.byteCount)
    }

    func testSocketOptionsOutOfRangeAreRefused() throws {
        let refused = [
            DtlsSocketOptions(timeToLive: 0), DtlsSocketOptions(timeToLive: 256),
            DtlsSocketOptions(receiveBufferSize: 0), DtlsSocketOptions(sendBufferSize: -1),
            DtlsSocketOptions(sendBufferSize: .max),
        ]
        for options in refused {
            XCTAssertThrowsError(try UDPSocket.bind(loopback(), options: options)) { error in
                XCTAssertEqual((error as? DtlsError)?.code, .invalidConfiguration)
            }
        }
    }
}

// MARK: - Sockets

final class UDPSocketTests: XCTestCase {
    func testASocketOnPortZeroGetsAPort() throws {
        let socket = try UDPSocket.bind(loopback())
        XCTAssertEqual(socket.localAddress.host, "127.0.0.1")
        XCTAssertNotEqual(socket.localAddress.port, 0)
        XCTAssertEqual(socket.reach, .ipv4)
        XCTAssertNil(socket.connectedPeer)
    }

    func testAPortThatIsTakenSaysSo() throws {
        let first = try UDPSocket.bind(loopback())
        XCTAssertThrowsError(try UDPSocket.bind(first.localAddress)) { error in
            let error = error as? DtlsError
            XCTAssertEqual(error?.code, .addressInUse)
            XCTAssertEqual(error?.phase, .binding)
            XCTAssertEqual(error?.systemError, EADDRINUSE)
            XCTAssertTrue(error?.message.contains(first.localAddress.description) ?? false)
            XCTAssertTrue(error?.hint?.contains("port 0") ?? false)
        }
    }

    func testReusePortLetsSocketsShareAPort() throws {
        let options = DtlsSocketOptions(reusePort: true)
        let first = try UDPSocket.bind(loopback(), options: options)
        let second = try UDPSocket.bind(first.localAddress, options: options)
        XCTAssertEqual(first.localAddress, second.localAddress)
    }

    func testAnAddressOfAnotherMachineCannotBeBound() throws {
        let foreign = try DtlsAddress(ipAddress: "192.0.2.1", port: 0)
        XCTAssertThrowsError(try UDPSocket.bind(foreign)) { error in
            XCTAssertEqual((error as? DtlsError)?.code, .socketFailed)
            XCTAssertNotNil((error as? DtlsError)?.hint)
        }
    }

    func testTimeToLiveReachesTheSocket() throws {
        let options = DtlsSocketOptions(sendBufferSize: 65_536, timeToLive: 42)
        let socket = try UDPSocket.bind(loopback(), options: options)
        XCTAssertEqual(SystemCall.option(socket.descriptor, SystemCall.ipv4Level, IP_TTL), .value(42))
    }

    func testDatagramsArriveWithTheirLengthAndSource() throws {
        let (sender, receiver) = (try UDPSocket.bind(loopback()), try UDPSocket.bind(loopback()))
        XCTAssertEqual(receiver.receiveNow(), .wouldBlock)
        for length in [1, 0, 1200, 16_384] {
            XCTAssertEqual(sender.send(length, to: receiver), .sent)
            XCTAssertEqual(try receiver.receiveSoon(), .datagram(count: length, from: sender.localAddress))
        }
        XCTAssertEqual(receiver.receiveNow(), .wouldBlock)
    }

    func testADatagramLongerThanTheBufferIsSkippedWhole() throws {
        let (sender, receiver) = (try UDPSocket.bind(loopback()), try UDPSocket.bind(loopback()))
        XCTAssertEqual(sender.send(200, to: receiver), .sent)
        XCTAssertEqual(sender.send(100, to: receiver), .sent)
        XCTAssertEqual(try receiver.receiveSoon(bufferSize: 100), .retry)
        XCTAssertEqual(try receiver.receiveSoon(bufferSize: 100), .datagram(count: 100, from: sender.localAddress))
    }

    func testADatagramTooLongForUDPFailsAndTheSocketGoesOn() throws {
        let (sender, receiver) = (try UDPSocket.bind(loopback()), try UDPSocket.bind(loopback()))
        guard case .tooLarge = sender.send(65_508, to: receiver) else { return XCTFail("it was taken") }
        XCTAssertEqual(sender.send(5, to: receiver), .sent)
        XCTAssertEqual(sender.counters, UDPSocket.Counters(queued: 0, dropped: 0, failed: 1))
    }

    func testAnIPv4SocketRefusesAnIPv6Destination() throws {
        let socket = try UDPSocket.bind(loopback())
        let address = try DtlsAddress(ipAddress: "::1", port: 9)
        XCTAssertEqual(socket.send([1], to: address), .failed(EAFNOSUPPORT))
    }

    func testAWildcardSocketServesBothFamilies() throws {
        let server: UDPSocket
        do {
            server = try UDPSocket.bind(.anyIPv6)
        } catch {
            throw XCTSkip("no IPv6 here: \(error)")
        }
        XCTAssertEqual(server.reach, .both)
        let client = try UDPSocket.bind(loopback())
        let address = try DtlsAddress(ipAddress: "127.0.0.1", port: server.localAddress.port)
        XCTAssertEqual(client.send([1, 2], to: address), .sent)
        XCTAssertEqual(try server.receiveSoon(), .datagram(count: 2, from: client.localAddress, to: address))
        XCTAssertEqual(server.send([1, 2, 3], to: client.localAddress), .sent)
        XCTAssertEqual(try client.receiveSoon(), .datagram(count: 3, from: address))
    }

    func testAClosedSocketTakesAndGivesNothing() throws {
        let socket = try UDPSocket.bind(loopback())
        socket.close()
        socket.close()
        XCTAssertEqual(fcntl(socket.descriptor, F_GETFD), -1)
        XCTAssertEqual(socket.send([1], to: socket.localAddress), .dropped)
        XCTAssertEqual(socket.receiveNow(), .failed(EBADF))
        XCTAssertEqual(socket.counters.dropped, 1)
    }

    func testAReleasedSocketClosesItsDescriptor() throws {
        let descriptor = try UDPSocket.bind(loopback()).descriptor
        XCTAssertEqual(fcntl(descriptor, F_GETFD), -1)
    }

    /// Others have closed the descriptor, and its number is of something else.
    func testADescriptorThatIsSomebodyElsesIsNotClosed() throws {
        let stranger = open("/dev/null", O_RDONLY)
        defer { _ = close(stranger) }
        for reads in [false, true] {
            let socket = try UDPSocket.bind(loopback())
            XCTAssertEqual(dup2(stranger, socket.descriptor), socket.descriptor)
            if reads {
                XCTAssertEqual(socket.receiveNow(), .failed(ENOTSOCK))
            } else {
                XCTAssertEqual(socket.send([1], to: socket.localAddress), .failed(ENOTSOCK))
            }
            socket.close()
            XCTAssertEqual(inode(of: socket.descriptor), inode(of: stranger))
            XCTAssertNotNil(inode(of: stranger))
            _ = close(socket.descriptor)
        }
    }

    func testSendersElsewhereMayGoOnWhileTheSocketIsClosed() throws {
        let receiver = try UDPSocket.bind(loopback())
        for _ in 0..<20 {
            let sender = try UDPSocket.bind(loopback())
            DispatchQueue.concurrentPerform(iterations: 4) { iteration in
                if iteration == 3 { return sender.close() }
                for _ in 0..<50 { _ = sender.send([1], to: receiver.localAddress) }
            }
            XCTAssertEqual(sender.send([1], to: receiver.localAddress), .dropped)
        }
    }
}

// MARK: - Adopted descriptors

final class AdoptedSocketTests: XCTestCase {
    func testAnAdoptedDescriptorStaysAsItIsAndOpen() throws {
        let descriptor = socket(AF_INET, SystemCall.datagramType, 0)
        defer { _ = close(descriptor) }
        let flags = fcntl(descriptor, F_GETFL)

        let adopted = try UDPSocket.adopt(descriptor: descriptor, takesOwnership: false)
        XCTAssertNotEqual(adopted.localAddress.port, 0, "an unbound socket was not bound")
        XCTAssertEqual(adopted.receiveNow(), .wouldBlock, "a blocking descriptor must not block")
        XCTAssertEqual(fcntl(descriptor, F_GETFL), flags)
        adopted.close()
        XCTAssertEqual(adopted.receiveNow(), .failed(EBADF), "it is the owner's again")
        XCTAssertNotEqual(fcntl(descriptor, F_GETFD), -1)
    }

    func testAnAdoptedDescriptorIsClosedWhenItIsOwned() throws {
        let descriptor = socket(AF_INET, SystemCall.datagramType, 0)
        try UDPSocket.adopt(descriptor: descriptor, takesOwnership: true).close()
        XCTAssertEqual(fcntl(descriptor, F_GETFD), -1)
    }

    func testAConnectedDescriptorKeepsItsPeer() throws {
        let (peer, other) = (try UDPSocket.bind(loopback()), try UDPSocket.bind(loopback()))
        let connected = try connectedSocket(to: peer.localAddress)
        XCTAssertEqual(connected.connectedPeer, peer.localAddress)
        XCTAssertEqual(connected.send(3, to: peer), .sent)
        XCTAssertEqual(try peer.receiveSoon(), .datagram(count: 3, from: connected.localAddress))
        XCTAssertEqual(connected.send(3, to: other), .failed(EISCONN))
    }

    func testAPortThatRefusesIsNotFatal() throws {
        let peer = try UDPSocket.bind(loopback())
        let address = peer.localAddress
        let connected = try connectedSocket(to: address)
        peer.close()
        XCTAssertEqual(connected.send([1], to: address), .sent)
        // The refusal comes back as a pending error of the socket.
        XCTAssertEqual(try connected.receiveSoon(), .retry)
        XCTAssertEqual(connected.receiveNow(), .wouldBlock)

        let reopened = try UDPSocket.bind(address)
        XCTAssertEqual(connected.send([1, 2], to: address), .sent)
        XCTAssertEqual(try reopened.receiveSoon(), .datagram(count: 2, from: connected.localAddress))
    }

    func testAnEarlierRefusalDoesNotLoseALaterDatagram() throws {
        let peer = try UDPSocket.bind(loopback())
        let address = peer.localAddress
        let connected = try connectedSocket(to: address)
        peer.close()
        XCTAssertEqual(connected.send([1], to: address), .sent)
        XCTAssertTrue(connected.isReadable(within: 5000), "no refusal came back")

        let reopened = try UDPSocket.bind(address)
        XCTAssertEqual(connected.send([1, 2], to: address), .sent)
        XCTAssertEqual(try reopened.receiveSoon(), .datagram(count: 2, from: connected.localAddress))
    }

    func testWhatIsNoUDPSocketIsRefusedAndLeftOpen() throws {
        #if canImport(Glibc)
            let streamType = Int32(SOCK_STREAM.rawValue)
        #else
            let streamType = SOCK_STREAM
        #endif
        let others = [open("/dev/null", O_RDONLY), socket(AF_INET, streamType, 0), socket(AF_UNIX, streamType, 0)]
        defer { for descriptor in others { _ = close(descriptor) } }
        for descriptor in others + [-1] {
            XCTAssertThrowsError(try UDPSocket.adopt(descriptor: descriptor, takesOwnership: true)) { error in
                XCTAssertEqual((error as? DtlsError)?.code, .invalidConfiguration)
            }
            if descriptor >= 0 { XCTAssertNotEqual(fcntl(descriptor, F_GETFD), -1) }
        }
    }

    private func connectedSocket(to address: DtlsAddress) throws -> UDPSocket {
        let descriptor = socket(AF_INET, SystemCall.datagramType, 0)
        let connected = address.withSystemAddress(.ipv4) { connect(descriptor, $0, $1) }
        XCTAssertEqual(connected, 0)
        return try UDPSocket.adopt(descriptor: descriptor, takesOwnership: true)
    }
}

// MARK: - The backlog

final class BacklogTests: XCTestCase {
    func testWhatWaitsIsSentInOrder() throws {
        let kernel = FakeKernel()
        let socket = try kernel.makeSocket()
        let calls = Mutex(0)
        socket.setBacklogHandler { calls.withLock { $0 += 1 } }
        let peer = socket.localAddress

        XCTAssertEqual(socket.send([0], to: peer), .sent)
        kernel.room = 0
        XCTAssertEqual(socket.send([1], to: peer), .queued)
        kernel.room = .max
        XCTAssertEqual(socket.send([2], to: peer), .queued, "it overtook one that waits")
        XCTAssertEqual(socket.send([3], to: peer), .queued)
        XCTAssertFalse(socket.hasRoom)
        XCTAssertEqual(calls.withLock { $0 }, 1, "called for more than the first")

        kernel.room = 2
        XCTAssertFalse(socket.flushBacklog())
        kernel.room = .max
        XCTAssertTrue(socket.flushBacklog())
        XCTAssertTrue(socket.flushBacklog(), "a spurious writable event is harmless")
        XCTAssertTrue(socket.hasRoom)
        XCTAssertEqual(socket.send([4], to: peer), .sent)
        XCTAssertEqual(kernel.sent, [[0], [1], [2], [3], [4]])

        kernel.room = 0
        XCTAssertEqual(socket.send([5], to: peer), .queued)
        XCTAssertEqual(calls.withLock { $0 }, 2)
        XCTAssertEqual(socket.counters, UDPSocket.Counters(queued: 4, dropped: 0, failed: 0, mostQueued: 3))
    }

    func testAHandlerSetLateIsToldOfWhatWaits() throws {
        let kernel = FakeKernel()
        let socket = try kernel.makeSocket()
        kernel.room = 0
        XCTAssertEqual(socket.send([1], to: socket.localAddress), .queued)
        let called = Mutex(false)
        socket.setBacklogHandler { called.withLock { $0 = true } }
        XCTAssertTrue(called.withLock { $0 })
    }

    func testTheBacklogIsBoundedByCount() throws {
        let kernel = FakeKernel()
        let socket = try kernel.makeSocket()
        kernel.room = 0
        for _ in 0..<DatagramBacklog.maximumCount {
            XCTAssertEqual(socket.send([1], to: socket.localAddress), .queued)
        }
        XCTAssertEqual(socket.send([1], to: socket.localAddress), .dropped)
        kernel.room = .max
        XCTAssertTrue(socket.flushBacklog())
        XCTAssertEqual(kernel.sent.count, DatagramBacklog.maximumCount)
    }

    func testTheBacklogIsBoundedByBytes() throws {
        let kernel = FakeKernel()
        let socket = try kernel.makeSocket()
        kernel.room = 0
        for _ in 0..<32 { XCTAssertEqual(socket.send(32_768, to: socket), .queued) }
        XCTAssertEqual(socket.send(1, to: socket), .dropped)
        XCTAssertEqual(socket.send(0, to: socket), .queued)
        kernel.room = 1
        XCTAssertFalse(socket.flushBacklog())
        XCTAssertEqual(socket.send(32_768, to: socket), .queued, "room that came free is not used")
    }

    func testADatagramThatFailsDoesNotHoldUpTheOthers() throws {
        let kernel = FakeKernel()
        let socket = try kernel.makeSocket()
        kernel.room = 0
        for byte in [1, 66, 3] as [UInt8] { XCTAssertEqual(socket.send([byte], to: socket.localAddress), .queued) }
        kernel.room = .max
        XCTAssertTrue(socket.flushBacklog())
        XCTAssertEqual(kernel.sent, [[1], [3]])
        XCTAssertEqual(socket.counters.failed, 1)
    }

    func testClosingDropsWhatWaits() throws {
        let kernel = FakeKernel()
        let socket = try kernel.makeSocket()
        kernel.room = 0
        for _ in 0..<3 { XCTAssertEqual(socket.send([1], to: socket.localAddress), .queued) }
        socket.close()
        kernel.room = .max
        XCTAssertTrue(socket.flushBacklog())
        XCTAssertEqual(kernel.sent, [])
        XCTAssertEqual(socket.counters.dropped, 3)
    }

    func testClosingLetsGoOfAHandlerWhoseOwnerClosesTheSocket() throws {
        final class Owner: Sendable {
            let socket: UDPSocket
            let gone: XCTestExpectation

            init(_ socket: UDPSocket, _ gone: XCTestExpectation) {
                self.socket = socket
                self.gone = gone
            }

            deinit {
                socket.close()
                gone.fulfill()
            }
        }
        let gone = expectation(description: "the owner is released")
        let socket = try FakeKernel().makeSocket()
        var owner: Owner? = Owner(socket, gone)
        socket.setBacklogHandler { [owner] in _ = owner?.socket }
        owner = nil
        socket.close()
        wait(for: [gone], timeout: 5)
    }

    func testSendersInParallelEachKeepTheirOrder() throws {
        let kernel = FakeKernel()
        let socket = try kernel.makeSocket()
        DispatchQueue.concurrentPerform(iterations: 4) { sender in
            for number in 0..<200 as Range<UInt8> {
                if sender == 0, number % 10 == 0 { kernel.room = number % 20 == 0 ? 0 : .max }
                if sender == 1, number % 5 == 0 { _ = socket.flushBacklog() }
                _ = socket.send([UInt8(sender), number], to: socket.localAddress)
            }
        }
        kernel.room = .max
        XCTAssertTrue(socket.flushBacklog())
        XCTAssertEqual(kernel.sent.count, 800)
        for sender in 0..<4 as Range<UInt8> {
            XCTAssertEqual(kernel.sent.filter { $0[0] == sender }.map { $0[1] }, Array(0..<200))
        }
    }
}

/// A kernel with as much room as the test says, which refuses datagrams that begin with 66.
private final class FakeKernel: Sendable {
    private let state = Mutex((room: Int.max, sent: [[UInt8]]()))

    var sent: [[UInt8]] { state.withLock { $0.sent } }

    var room: Int {
        get { state.withLock { $0.room } }
        set { state.withLock { $0.room = newValue } }
    }

    func makeSocket() throws -> UDPSocket {
        try UDPSocket.bind(loopback()) { bytes, _ in
            self.state.withLock { state in
                guard state.room > 0 else { return .wouldBlock }
                if bytes.first == 66 { return .failed(EPERM) }
                state.room -= 1
                state.sent.append([UInt8](bytes))
                return .value(bytes.count)
            }
        }
    }
}

// MARK: - Names

final class NameResolutionTests: XCTestCase {
    func testALiteralIsNotLookedUp() async throws {
        for text in ["127.0.0.1", "::1", "fe80::1%2"] {
            let answer = try await NameResolution.resolve(host: text, port: 7, reach: .both) { _, _ in
                XCTFail("looked up")
                return .cancelled
            }
            XCTAssertEqual(answer, [try DtlsAddress(ipAddress: text, port: 7)])
        }
    }

    func testAddressesAreReachableOnesWithoutDuplicatesInOrder() async throws {
        let (a, b) = (
            try DtlsAddress(ipAddress: "2001:db8::1", port: 7), try DtlsAddress(ipAddress: "192.0.2.1", port: 7)
        )
        let cases: [(UDPSocket.Reach, [DtlsAddress])] = [(.both, [a, b]), (.ipv4, [b]), (.ipv6, [a])]
        for (reach, expected) in cases {
            let answer = try await NameResolution.resolve(host: "test", port: 7, reach: reach) { _, _ in
                .addresses([a, b, a, b])
            }
            XCTAssertEqual(answer, expected)
        }
    }

    func testAnAddressThatTheSocketCannotReachSaysWhatToDo() async {
        let error = await failure(of: "::1", reach: .ipv4)
        XCTAssertEqual(error?.code, .nameResolutionFailed)
        XCTAssertTrue(error?.hint?.contains("IPv4") ?? false)
    }

    func testAnUnknownNameFailsWithTheSystemsReason() async {
        let error = await failure(of: "no\nsuch") { _, _ in .failed(code: EAI_NONAME, systemError: nil) }
        XCTAssertEqual(error?.code, .nameResolutionFailed)
        XCTAssertEqual(error?.phase, .resolution)
        XCTAssertTrue(error?.message.contains(#"'no\u{a}such'"#) ?? false)
        XCTAssertTrue(error?.message.contains(String(cString: gai_strerror(EAI_NONAME))) ?? false)
    }

    func testWhatCannotBeANameFailsWithoutALookUp() async {
        for host in ["", "127.0.0.1\0.example.org", String(repeating: "a", count: 256)] {
            let error = await failure(of: host) { _, _ in
                XCTFail("looked up")
                return .cancelled
            }
            XCTAssertEqual(error?.code, .nameResolutionFailed)
        }
    }

    func testCancellingEndsTheWaitForANameServer() async {
        let release = DispatchSemaphore(value: 0)
        let (started, reportStart) = AsyncStream<Void>.makeStream()
        let task = Task {
            await failure(of: "slow") { _, _ in
                reportStart.yield()
                release.wait()
                return .addresses([])
            }
        }
        for await _ in started { break }
        task.cancel()
        let error = await task.value
        XCTAssertEqual(error?.code, .cancelled)
        release.signal()
    }

    func testTheSystemKnowsLocalhost() async throws {
        let addresses = try await NameResolution.resolve(host: "localhost", port: 7, reach: .both)
        XCTAssertFalse(addresses.isEmpty)
        XCTAssertTrue(addresses.allSatisfy { $0.port == 7 && ["127.0.0.1", "::1"].contains($0.host) }, "\(addresses)")
    }

    func testBindingToAHostTriesItsAddresses() async throws {
        for host in ["::", "localhost", "127.0.0.1"] {
            let socket = try await UDPSocket.bind(host: host, port: 0, options: DtlsSocketOptions())
            XCTAssertNotEqual(socket.localAddress.port, 0)
        }
    }
}

// MARK: - Helpers

private func loopback() throws -> DtlsAddress { try DtlsAddress(ipAddress: "127.0.0.1", port: 0) }

/// The error with which a name is not resolved.
private func failure(
    of host: String,
    reach: UDPSocket.Reach = .both,
    lookUp: @escaping NameResolution.LookUp = NameResolution.systemLookUp
) async -> DtlsError? {
    do throws(DtlsError) {
        let addresses = try await NameResolution.resolve(host: host, port: 7, reach: reach, lookUp: lookUp)
        XCTFail("resolved to \(addresses)")
        return nil
    } catch {
        return error
    }
}

extension UDPSocket {
    fileprivate func send(_ length: Int, to receiver: UDPSocket) -> SendResult {
        send([UInt8](repeating: 7, count: length), to: receiver.localAddress)
    }

    fileprivate func receiveNow(bufferSize: Int = 65_536) -> Received {
        var buffer = [UInt8](repeating: 0, count: bufferSize)
        return buffer.withUnsafeMutableBytes { receive(into: $0) }
    }

    /// Waits until there is something to receive, at most five seconds, and receives it.
    fileprivate func receiveSoon(bufferSize: Int = 65_536) throws -> Received {
        XCTAssertTrue(isReadable(within: 5000), "nothing came")
        return receiveNow(bufferSize: bufferSize)
    }

    fileprivate func isReadable(within milliseconds: Int32) -> Bool {
        var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&request, 1, milliseconds) == 1
    }
}
