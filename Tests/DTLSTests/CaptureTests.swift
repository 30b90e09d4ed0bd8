import DTLSCore
import DTLSTestSupport
import Foundation
import XCTest

@testable import DTLS

/// Key logs and captures.
final class CaptureTests: XCTestCase {
    /// A capture in memory.
    private final class Tape: Sendable {
        private let pieces = Recorder<[UInt8]>()

        func capture() -> DtlsCapture { DtlsCapture { [pieces] in pieces.add($0) } }

        var file: CaptureFile {
            get throws { try CaptureFile(pieces.values.flatMap { $0 }) }
        }
    }

    private static let keyLine = try? NSRegularExpression(pattern: "^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}$")

    private static func isKeyLine(_ line: String) -> Bool {
        let range = NSRange(line.startIndex..., in: line)
        return keyLine?.firstMatch(in: line, range: range) != nil
    }

    // MARK: Key logs

    func testAKeyLogGetsALinePerHandshakeOnBothSides() async throws {
        try await withDeadline {
            let client = Recorder<String>()
            let server = Recorder<String>()
            let loopback = try await Loopback(
                .preSharedKey(nil, .make { $0.keyLog = DtlsKeyLog { client.add($0) } }),
                .preSharedKey(.make { $0.keyLog = DtlsKeyLog { server.add($0) } })
            )
            try await loopback.near.expectArrival(at: loopback.far)
            await loopback.close()
            XCTAssertEqual(client.values.count, 1)
            XCTAssertTrue(client.values.allSatisfy(Self.isKeyLine), "\(client.values.map(\.count))")
            XCTAssertEqual(client.values, server.values)
        }
    }

    func testAKeyLogFileIsAppendedToAndForItsOwnerOnly() async throws {
        try await withDeadline {
            let folder = try ScratchFolder()
            for round in 1...2 {
                let log = try DtlsKeyLog(file: folder.path("keys.log"))
                let loopback = try await Loopback(.preSharedKey(nil, .make { $0.keyLog = log }))
                await loopback.close()
                let lines = String(decoding: try folder.read("keys.log"), as: UTF8.self).split(separator: "\n")
                XCTAssertEqual(lines.count, round)
                XCTAssertTrue(lines.allSatisfy { Self.isKeyLine(String($0)) })
            }
            let attributes = try FileManager.default.attributesOfItem(atPath: folder.path("keys.log"))
            XCTAssertEqual((attributes[.posixPermissions] as? NSNumber)?.intValue, 0o600)
            let error = await failure { try DtlsKeyLog(file: folder.path("missing/keys.log")) }
            XCTAssertEqual(error?.code, .fileUnreadable)
            XCTAssertEqual(error?.systemError, ENOENT)
        }
    }

    func testTheEnvironmentNamesAKeyLog() async throws {
        try await withDeadline {
            let before = getenv("SSLKEYLOGFILE").map { String(cString: $0) }
            defer { if let before { setenv("SSLKEYLOGFILE", before, 1) } else { unsetenv("SSLKEYLOGFILE") } }
            let folder = try ScratchFolder()
            unsetenv("SSLKEYLOGFILE")
            XCTAssertNil(try DtlsKeyLog.fromEnvironment())
            setenv("SSLKEYLOGFILE", "", 1)
            XCTAssertNil(try DtlsKeyLog.fromEnvironment())
            setenv("SSLKEYLOGFILE", folder.path("env.log"), 1)
            let log = try XCTUnwrap(DtlsKeyLog.fromEnvironment())
            let loopback = try await Loopback(.preSharedKey(nil, .make { $0.keyLog = log }))
            await loopback.close()
            let text = String(decoding: try folder.read("env.log"), as: UTF8.self)
            XCTAssertTrue(Self.isKeyLine(String(text.dropLast())))
        }
    }

    // MARK: Captures

    /// Checks a capture of one conversation: who, what, and in which order.
    private static func check(
        _ file: CaptureFile,
        client: DtlsEndpointName,
        server: DtlsEndpointName,
        toServer: [[UInt8]],
        toClient: [[UInt8]]
    ) {
        let packets = file.packets
        XCTAssertEqual(packets.filter { $0.source == client && $0.destination == server }.map(\.payload), toServer)
        XCTAssertEqual(packets.filter { $0.source == server && $0.destination == client }.map(\.payload), toClient)
        XCTAssertEqual(packets.count, toServer.count + toClient.count)
        XCTAssertEqual(packets.first?.source, client, "the ClientHello is the first")
        XCTAssertEqual(file.secrets.count, 1)
        XCTAssertTrue(file.secrets.allSatisfy { Self.isKeyLine(String($0.dropLast())) && $0.hasSuffix("\n") })
        XCTAssertTrue(file.secretsComeFirst, "something sealed stands before the secrets")
    }

    func testCapturesOfAClientAndOfAServer() async throws {
        try await withDeadline {
            let near = Tape()
            let far = Tape()
            let loopback = try await Loopback(
                .trusting(Credentials.localhost(), .make { $0.capture = near.capture() }),
                .presenting(Credentials.localhost(), .make { $0.capture = far.capture() }),
                relayed: true
            )
            try await loopback.near.expectArrival(at: loopback.far, "to the server")
            try await loopback.far.expectArrival(at: loopback.near, "to the client")
            let relay = try loopback.relay
            let toServer = relay.recorded(.toServer)
            let toClient = relay.recorded(.toClient)
            try Self.check(
                near.file,
                client: loopback.client.localAddress.endpointName,
                server: relay.address.endpointName,
                toServer: toServer,
                toClient: toClient
            )
            try Self.check(
                far.file,
                client: relay.addressAtServer.endpointName,
                server: loopback.server.localAddress.endpointName,
                toServer: toServer,
                toClient: toClient
            )
            await loopback.close()
        }
    }

    /// While a key is looked up, what has come waits: it must not stand before the secrets for that.
    func testSecretsStandFirstWhenAKeyIsLookedUp() async throws {
        try await withDeadline {
            let tape = Tape()
            let gate = Gate()
            let keys = DtlsPreSharedKeyStore { _ in
                await gate.wait()
                return DtlsSecretBytes(Credentials.key)
            }
            let server = try await DtlsServer.onLoopback(
                DtlsServerContext(.make { $0.capture = tape.capture() }, preSharedKeys: keys)
            )
            let address = server.localAddress
            let client = try await DtlsClient.onLoopback()
            let connecting = Task { try await client.connect(to: address, context: .preSharedKey()) }
            try await eventually("the key was asked for") { gate.waiterCount == 1 }
            gate.open()
            let near = try await connecting.value
            let far = try await server.accept()
            try await near.expectArrival(at: far)
            let file = try tape.file
            XCTAssertEqual(file.secrets.count, 1)
            XCTAssertTrue(file.secretsComeFirst, "something sealed stands before the secrets")
            await client.close()
            await server.close()
        }
    }

    func testACaptureOfABareEngine() throws {
        let tape = Tape()
        var options = try PairOptions.preSharedKey()
        options.client.capture = tape.capture()
        options.usesGate = false
        let pair = try EnginePair(options)
        try pair.connect()
        try pair.client.send([1, 2, 3])
        try pair.pump()
        let server = try XCTUnwrap(pair.server)
        XCTAssertEqual(server.payloads, [[1, 2, 3]])
        Self.check(
            try tape.file,
            client: DtlsEndpointName(address: [10, 0, 0, 1], port: 50_000),
            server: DtlsEndpointName(address: [10, 0, 0, 2], port: 4_433),
            toServer: pair.client.sent,
            toClient: server.sent
        )
    }

    func testAddressesOfCapturedPackets() throws {
        let tape = Tape()
        let capture = tape.capture()
        let v4 = DtlsEndpointName(address: [192, 0, 2, 1], port: 1)
        let v6 = DtlsEndpointName(address: [0x20, 1] + [UInt8](repeating: 7, count: 14), port: 65_535)
        let payloads: [[UInt8]] = (1...5).map { [UInt8](repeating: UInt8($0), count: $0) }
        for payload in payloads {
            payload.withUnsafeBytes {
                capture.record($0, from: v4, to: v4)
                capture.record($0, from: v6, to: v6)
                capture.record($0, from: v4, to: v6)
            }
        }
        let packets = try tape.file.packets
        XCTAssertEqual(packets.map(\.payload), payloads.flatMap { [$0, $0, $0] })
        let mapped = DtlsEndpointName(address: [UInt8](repeating: 0, count: 10) + [255, 255, 192, 0, 2, 1], port: 1)
        XCTAssertEqual(packets.prefix(3).map(\.source), [v4, v6, mapped])
        XCTAssertEqual(packets.prefix(3).map(\.destination), [v4, v6, v6])
        XCTAssertEqual(DtlsEndpointName(address: [1, 2], port: 3).address, [0, 0, 0, 0])
    }
}
