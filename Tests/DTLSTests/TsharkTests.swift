import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Whether tshark, without any setting, reads the plaintext out of a capture.
final class TsharkTests: XCTestCase {
    private static let texts = ["sesame from the client", "sesame from the server"]

    /// Checks that tshark decrypts both datagrams of ``texts``, in one pass.
    private static func assertDecrypts(_ folder: ScratchFolder) throws {
        let output = try CommandLineTool.run("tshark", ["-r", "session.pcapng", "-Y", "dtls", "-V"], in: folder.url)
        for text in texts {
            let hex = text.utf8.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            XCTAssertTrue(output.contains("Data: \(hex)"), "\"\(text)\" was not decrypted:\n\(output)")
        }
        let filter = ["-r", "session.pcapng", "-Y", "_ws.malformed"]
        let problems = try CommandLineTool.run("tshark", filter, in: folder.url)
        XCTAssertEqual(problems, "", "tshark finds packets malformed")
    }

    private static func capture(_ folder: ScratchFolder) throws -> DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.capture = try DtlsCapture(file: folder.path("session.pcapng"))
        return configuration
    }

    private static func talk(_ loopback: Loopback) async throws {
        try await loopback.near.expectArrival(at: loopback.far, texts[0])
        try await loopback.far.expectArrival(at: loopback.near, texts[1])
        await loopback.close()
    }

    func testACaptureOfAClient() async throws {
        try await withDeadline {
            let folder = try ScratchFolder()
            let context = try DtlsClientContext.trusting(Credentials.localhost(), Self.capture(folder))
            try await Self.talk(Loopback(context, .presenting(Credentials.localhost())))
            try Self.assertDecrypts(folder)
        }
    }

    func testACaptureOfAServer() async throws {
        try await withDeadline {
            let folder = try ScratchFolder()
            // Nor does it, in this handshake, decrypt what a client writes behind an ID when the client itself has
            // none. tshark 4.0.17 finds an "auth tag mismatch" in each ChaCha20-Poly1305 record of DTLS, with the right
            // secret.
            var configuration = try Self.capture(folder)
            configuration.cipherSuites = .suites([.pskWithAES128GCM])
            try await Self.talk(
                Loopback(
                    .preSharedKey(nil, .make { $0.connectionIDs = .random(length: 4) }),
                    .preSharedKey(configuration)
                )
            )
            try Self.assertDecrypts(folder)
        }
    }

    func testACaptureOfAResumedSession() async throws {
        try await withDeadline {
            let identity = try Credentials.localhost()
            let server = try await DtlsServer.onLoopback(.presenting(identity))
            let session = try await server.firstSession(.trusting(identity))
            let folder = try ScratchFolder()
            let context = try DtlsClientContext.trusting(identity, Self.capture(folder))
            let meeting = try await Meeting(at: server, context, session: session)
            XCTAssertTrue(try meeting.isResumed)
            try await meeting.near.expectArrival(at: meeting.far, Self.texts[0])
            try await meeting.far.expectArrival(at: meeting.near, Self.texts[1])
            await meeting.close()
            await server.close()
            try Self.assertDecrypts(folder)
        }
    }

    func testACaptureOfABareEngine() throws {
        let folder = try ScratchFolder()
        var options = try PairOptions.certificates()
        options.client.capture = try Self.capture(folder).capture
        options.usesGate = false
        let pair = try EnginePair(options)
        try pair.connect()
        try pair.client.send(Array(Self.texts[0].utf8))
        try pair.pump()
        try pair.server?.send(Array(Self.texts[1].utf8))
        try pair.pump()
        try Self.assertDecrypts(folder)
    }
}
