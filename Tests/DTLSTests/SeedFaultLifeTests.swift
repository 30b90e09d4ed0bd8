import DTLSCore
import XCTest

@testable import DTLS

/// One test for each fault that was found in dtls2 (`B1` to `B20`): peers, failures and ends.
final class SeedFaultLifeTests: XCTestCase {
    /// A peer that started anew from the same address was ignored for ever.
    func testB09APeerThatStartsAnewGetsANewConnection() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let (old, address) = (loopback.far, try loopback.relay.address)
            // The first client vanishes: its close_notify is lost.
            try loopback.relay.rule { _ in [] }
            await loopback.client.close()

            // A hello with a good cookie alone takes nothing away.
            let hello = try await WireHello.capture(.preSharedKey())
            try loopback.relay.inject(hello.bytes, .toServer)
            var cookie: [UInt8]?
            try await eventually("a HelloVerifyRequest") {
                cookie = try loopback.relay.recorded(.toClient).compactMap { WireHello.cookie(in: $0) }.dropFirst()
                    .first
                return cookie != nil
            }
            let before = try loopback.relay.recorded(.toClient).count
            try loopback.relay.inject(hello.with(cookie: try XCTUnwrap(cookie)).bytes, .toServer)
            try await eventually("a ServerHello") { try loopback.relay.recorded(.toClient).count > before }
            XCTAssertEqual(old.state, .open)

            try loopback.relay.passEverything()
            let restarted = try await DtlsClient.onLoopback()
            let near = try await restarted.connect(to: address, context: .preSharedKey())
            let reason = await old.waitUntilClosed()
            XCTAssertEqual(reason, .replacedByPeer)
            let end = try await old.receive()
            XCTAssertNil(end)
            let far = try await loopback.server.accept()
            XCTAssertEqual(far.peerAddress, old.peerAddress)
            try await near.expectArrival(at: far)
            try await far.expectArrival(at: near)
            await restarted.close()
            await loopback.server.close()
        }
    }

    /// While the new association's handshake is under way, the old one still serves.
    func testFault11TheOldConnectionServesUntilTheNewOneIsFinished() async throws {
        try await withDeadline {
            let loopback = try await Loopback(relayed: true)
            let hello = try await WireHello.capture(.preSharedKey())
            try loopback.relay.inject(hello.bytes, .toServer)
            var cookie: [UInt8]?
            try await eventually("a HelloVerifyRequest") {
                cookie = try loopback.relay.recorded(.toClient).compactMap { WireHello.cookie(in: $0) }.dropFirst()
                    .first
                return cookie != nil
            }
            try loopback.relay.inject(hello.with(cookie: try XCTUnwrap(cookie)).bytes, .toServer)
            for number in 0..<40 {
                try await loopback.near.expectArrival(at: loopback.far, "there \(number)")
                try await loopback.far.expectArrival(at: loopback.near, "back \(number)")
            }
            XCTAssertEqual(loopback.far.state, .open)
            await loopback.close()
        }
    }

    /// After an unknown identity the address was dead until the server was restarted.
    func testB10AfterAWrongIdentityTheRightOneWorksFromTheSamePort() async throws {
        try await withDeadline {
            for policy in [DtlsUnknownIdentityPolicy.pretendWrongKey, .alert] {
                let server = try await DtlsServer.onLoopback(.preSharedKey(.eager, unknownIdentity: policy))
                let client = try await DtlsClient.onLoopback()
                for attempt in 0..<3 {
                    let stranger = try Credentials.preSharedKey("nobody \(attempt)")
                    let error = await failure {
                        try await client.connect(to: server.localAddress, context: .preSharedKey(stranger, .lessEager))
                    }
                    XCTAssertEqual(error?.code, .authenticationFailed)
                    let alert: DtlsAlertDescription = policy == .alert ? .unknownPSKIdentity : .decryptError
                    XCTAssertEqual(error?.alertReceived?.code, alert)
                }
                let near = try await client.connect(to: server.localAddress, context: .preSharedKey())
                let far = try await server.accept()
                try await near.expectArrival(at: far)
                await client.close()
                await server.close()
            }
        }
    }

    /// OpenSSL repeats the server's flight by itself when the client's comes just before the server's timer.
    func testB10AWrongKeyIsToldThoughTheClientAlwaysRepeatsFirst() async throws {
        try await withDeadline {
            let later = DtlsConfiguration.make { $0.setRetransmission(.milliseconds(50)) }
            let sooner = DtlsConfiguration.make { $0.setRetransmission(.milliseconds(40)) }
            let server = try await DtlsServer.onLoopback(.preSharedKey(later))
            let client = try await DtlsClient.onLoopback()
            let wrong = try Credentials.preSharedKey(key: [1, 2, 3])
            let error = await failure {
                try await client.connect(to: server.localAddress, context: .preSharedKey(wrong, sooner))
            }
            XCTAssertEqual(error?.code, .authenticationFailed)
            XCTAssertEqual(error?.alertReceived?.code, .decryptError)
            await client.close()
            await server.close()
        }
    }

    /// A key was copied to where OpenSSL had room for 512 bytes, whatever its length.
    func testB11AKeyThatIsTooLongIsATypedError() async throws {
        try await withDeadline {
            for (identity, length) in [("a", 513), ("a", 0), ("a", 1 << 20), (String(repeating: "i", count: 257), 16)] {
                let key = [UInt8](repeating: 7, count: length)
                let error = await failure { try DtlsPreSharedKey(identity: identity, key: key) }
                XCTAssertEqual(error?.code, .invalidPreSharedKey)
            }
            let longest = [UInt8](repeating: 7, count: 512)
            let store = DtlsPreSharedKeyStore { identity in
                DtlsSecretBytes(longest + (identity == Array("too long".utf8) ? [7] : []))
            }
            let server = try await DtlsServer.onLoopback(DtlsServerContext(.eager, preSharedKeys: store))
            let client = try await DtlsClient.onLoopback()
            let refused = try DtlsClientContext.preSharedKey(.init(identity: "too long", key: longest), .lessEager)
            let error = await failure { try await client.connect(to: server.localAddress, context: refused) }
            XCTAssertEqual(error?.code, .authenticationFailed)
            let accepted = try DtlsClientContext.preSharedKey(.init(identity: "fits", key: longest), .lessEager)
            let near = try await client.connect(to: server.localAddress, context: accepted)
            try await near.expectArrival(at: server.accept())
            await client.close()
            await server.close()
        }
    }

    /// OpenSSL's error queue was never cleared: what failed here ended an innocent connection there.
    func testB12AFailedHandshakeTouchesNoOtherConnection() async throws {
        try await withDeadline {
            let identity = try Credentials.localhost()
            let loopback = try await Loopback(.trusting(identity), .presenting(identity))
            let echo = try await DtlsServer.onLoopback(.presenting(identity))
            let wrongName = try DtlsClientContext.trusting(identity)
            let noSharedCipher = try DtlsClientContext.preSharedKey(nil, .lessEager)
            let other = try await DtlsClient.onLoopback()
            for _ in 0..<10 {
                let refused = await failure {
                    try await loopback.client.connect(
                        to: echo.localAddress,
                        context: wrongName,
                        serverName: "wrong.test"
                    )
                }
                XCTAssertEqual(refused?.code, .certificateRejected)
                try await loopback.far.expectArrival(at: loopback.near)
                let disagreed = await failure {
                    try await other.connect(to: loopback.server.localAddress, context: noSharedCipher)
                }
                XCTAssertEqual(disagreed?.code, .handshakeFailed)
                try await loopback.near.expectArrival(at: loopback.far)
            }
            for client in [other, loopback.client] { await client.close() }
            for server in [echo, loopback.server] { await server.close() }
        }
    }
}
