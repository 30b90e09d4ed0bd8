import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Connecting by name, and from one family of addresses to another.
final class ClientNameTests: XCTestCase {
    func testALocalNameIsResolved() async throws {
        try await withDeadline {
            let identity = try Credentials.localhost()
            let server = try await DtlsServer.onLoopback(.presenting(identity))
            let echo = server.echo()
            for host in ["::", "127.0.0.1", "0.0.0.0"] {
                let client = try await DtlsClient.bind(host: host)
                // On many systems the name's first address is ::1, where nobody answers.
                let connection = try await client.connect(
                    to: "localhost",
                    port: server.localAddress.port,
                    context: .trusting(identity)
                )
                XCTAssertEqual(connection.peerAddress, server.localAddress)
                try await connection.expectEcho()
                await client.close()
            }
            await server.close()
            _ = await echo.value
        }
    }

    func testTheNextAddressIsTriedWhenTheFirstIsSilent() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let (silent, alsoSilent) = (try RawSocket(), try RawSocket())
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            let race = AddressRace([silent.address, alsoSilent.address, server.localAddress])
            let connection = try await race.run { address throws(DtlsError) in
                try await client.connect(to: address, context: context)
            }
            XCTAssertEqual(connection.peerAddress, server.localAddress)
            try await connection.expectArrival(at: server.accept())
            // The attempts that lost are given up: with another context their peers are free.
            let other = try DtlsClientContext.preSharedKey()
            let error = await failure {
                try await client.connect(to: silent.address, context: other, timeout: .milliseconds(50))
            }
            XCTAssertEqual(error?.code, .handshakeTimedOut)
            await client.close()
            await server.close()
        }
    }

    /// What is refused at once holds nobody up: the wait for the next address would outlast the test.
    func testTheNextAddressIsTriedAtOnceWhenOneHasFailed() async throws {
        try await withDeadline {
            let server = try await DtlsServer.onLoopback()
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            let refused = try (1...2).map { try DtlsAddress(ipAddress: "127.0.0.1", port: $0) }
            let tried = Lock<[DtlsAddress]>([])
            let race = AddressRace(refused + [server.localAddress], delay: .seconds(3_600))
            let connection = try await race.run { address throws(DtlsError) in
                tried.withLock { $0.append(address) }
                if refused.contains(address) { throw DtlsError(.peerUnreachable, "at port \(address.port)") }
                return try await client.connect(to: address, context: context)
            }
            XCTAssertEqual(connection.peerAddress, server.localAddress)
            XCTAssertEqual(tried.withLock { $0 }, refused + [server.localAddress], "each once, in order")
            await client.close()
            await server.close()
        }
    }

    /// One that is merely slow is given its time.
    func testTheNextAddressWaitsForOneThatIsSilent() async throws {
        try await withDeadline {
            let (silent, next) = (try RawSocket(), try RawSocket())
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey(nil, .eager)
            let tried = Lock(0)
            let race = AddressRace([silent.address, next.address], delay: .seconds(3_600))
            let connecting = Task {
                try await race.run { address throws(DtlsError) in
                    tried.withLock { $0 += 1 }
                    return try await client.connect(to: address, context: context)
                }
            }
            // The hello came three times, and still nobody else was asked.
            for _ in 0..<3 { _ = try await silent.receive() }
            XCTAssertEqual(tried.withLock { $0 }, 1)
            connecting.cancel()
            let error = await failure { try await connecting.value }
            XCTAssertEqual(error?.code, .cancelled)
            XCTAssertEqual(tried.withLock { $0 }, 1, "a cancelled race tries nobody")
            await client.close()
        }
    }

    #if os(Linux)
        /// Without an error queue an unconnected socket is told nothing.
        func testTheNextAddressIsTriedAtOnceWhenAPortIsClosed() async throws {
            try await withDeadline {
                let server = try await DtlsServer.onLoopback()
                let client = try await DtlsClient.onLoopback()
                let context = try DtlsClientContext.preSharedKey()
                let race = AddressRace([try closedPort("127.0.0.1"), server.localAddress], delay: .seconds(3_600))
                let connection = try await race.run { address throws(DtlsError) in
                    try await client.connect(to: address, context: context)
                }
                XCTAssertEqual(connection.peerAddress, server.localAddress)
                await client.close()
                await server.close()
            }
        }
    #endif

    func testWhenEveryAddressFailsTheFirstOnesErrorIsThrown() async throws {
        try await withDeadline {
            let addresses = try (1...3).map { try DtlsAddress(ipAddress: "127.0.0.1", port: $0) }
            let error = await failure {
                try await AddressRace(addresses).run { address throws(DtlsError) in
                    throw DtlsError(.handshakeFailed, "at port \(address.port)")
                }
            }
            XCTAssertEqual(error?.message, "at port 1")
            let none = await failure {
                try await AddressRace([]).run { _ throws(DtlsError) in throw DtlsError(.internalFailure, "called") }
            }
            XCTAssertEqual(none?.code, .nameResolutionFailed)
        }
    }

    /// What failed before is not why the others were given up.
    func testACancelledRaceSaysSoWhateverHasFailedBefore() async throws {
        try await withDeadline {
            let addresses = try (1...2).map { try DtlsAddress(ipAddress: "127.0.0.1", port: $0) }
            let isWaiting = Gate()
            let race = Task {
                try await AddressRace(addresses, delay: .seconds(3_600)).run { address throws(DtlsError) in
                    guard address == addresses[1] else { throw DtlsError(.peerUnreachable, "at port 1") }
                    isWaiting.open()
                    try? await Task.sleep(for: .seconds(3_600))
                    throw DtlsError(.cancelled, "given up")
                }
            }
            await isWaiting.wait()
            race.cancel()
            let error = await failure { try await race.value }
            XCTAssertEqual(error?.code, .cancelled)
        }
    }

    func testCancellingEndsTheRace() async throws {
        try await withDeadline {
            let (silent, alsoSilent) = (try RawSocket(), try RawSocket())
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            let race = Task {
                try await AddressRace([silent.address, alsoSilent.address]).run { address throws(DtlsError) in
                    try await client.connect(to: address, context: context)
                }
            }
            _ = try await silent.receive()
            race.cancel()
            let error = await failure { try await race.value }
            XCTAssertEqual(error?.code, .cancelled)
            await client.close()
        }
    }

    func testAnAddressOfTheOtherFamilyIsRefusedAtOnce() async throws {
        let client = try await DtlsClient.onLoopback()
        let error = await failure {
            try await client.connect(to: DtlsAddress(ipAddress: "::1", port: 9), context: .preSharedKey())
        }
        XCTAssertEqual(error?.code, .nameResolutionFailed)
        XCTAssertNotNil(error?.hint)
        let byHost = await failure { try await client.connect(to: "::1", port: 9, context: .preSharedKey()) }
        XCTAssertEqual(byHost?.code, .nameResolutionFailed)
        await client.close()
    }

    func testIPv6Loopback() async throws {
        guard (try? RawSocket(host: "::1")) != nil else { throw XCTSkip("this system has no IPv6") }
        try await withDeadline {
            let identity = try Credentials.localhost()
            let server = try await DtlsServer.bind(host: "::1", port: 0, context: .presenting(identity))
            let client = try await DtlsClient.bind(host: "::1")
            let near = try await client.connect(to: server.localAddress, context: .trusting(identity))
            let far = try await server.accept()
            XCTAssertTrue(far.peerAddress.isIPv6)
            XCTAssertEqual(far.peerAddress, client.localAddress)
            try await near.expectArrival(at: far)
            try await far.expectArrival(at: near)
            await client.close()
            await server.close()
        }
    }

    func testAServerOfBothFamiliesServesBoth() async throws {
        guard (try? RawSocket(host: "::1")) != nil else { throw XCTSkip("this system has no IPv6") }
        try await withDeadline {
            let server = try await DtlsServer.bind(port: 0, context: .preSharedKey())
            let echo = server.echo()
            for host in ["127.0.0.1", "::1"] {
                let client = try await DtlsClient.bind()
                let connection = try await client.connect(
                    to: host,
                    port: server.localAddress.port,
                    context: .preSharedKey()
                )
                XCTAssertEqual(connection.peerAddress.host, host)
                try await connection.expectEcho()
                await client.close()
            }
            await server.close()
            _ = await echo.value
        }
    }
}
