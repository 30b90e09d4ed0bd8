import DTLSCore
import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLS

/// One client's connection to a server, both ends of it. The client has a socket of its own, so every meeting is a
/// handshake.
struct Meeting: Sendable {
    let client: DtlsClient
    /// The client's end.
    let near: DtlsConnection
    /// The server's end.
    let far: DtlsConnection

    init(
        at server: DtlsServer,
        _ context: DtlsClientContext,
        name: String? = "localhost",
        session: DtlsSession? = nil
    ) async throws {
        client = try await .onLoopback()
        let address = server.localAddress
        near = try await client.connect(to: address, context: context, serverName: name, session: session)
        far = try await server.accept()
    }

    /// Whether the two sides say that an earlier session was resumed. They must agree.
    var isResumed: Bool {
        get throws {
            guard near.negotiated.isResumed == far.negotiated.isResumed else {
                throw TestFailure(description: "the sides disagree about whether the session was resumed")
            }
            return near.negotiated.isResumed
        }
    }

    /// Checks that data flows in both directions.
    func exchange(file: StaticString = #filePath, line: UInt = #line) async throws {
        try await near.expectArrival(at: far, "to the server", file: file, line: line)
        try await far.expectArrival(at: near, "to the client", file: file, line: line)
    }

    /// Closes the client and waits for the server to notice.
    func close() async {
        await client.close()
        _ = await far.waitUntilClosed()
    }
}

extension DtlsServer {
    /// Lets a client in, exchanges data, and returns the client's session.
    func firstSession(
        _ context: DtlsClientContext,
        name: String? = "localhost",
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws -> DtlsSession {
        let meeting = try await Meeting(at: self, context, name: name)
        XCTAssertFalse(try meeting.isResumed, "there was nothing to resume", file: file, line: line)
        try await meeting.exchange(file: file, line: line)
        let session = try XCTUnwrap(meeting.near.session, "no session", file: file, line: line)
        await meeting.close()
        return session
    }

    /// Lets a client in that offers a session, exchanges data, and says whether the session was resumed.
    func resumes(
        _ session: DtlsSession?,
        _ context: DtlsClientContext,
        name: String? = "localhost",
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws -> Bool {
        let meeting = try await Meeting(at: self, context, name: name, session: session)
        let isResumed = try meeting.isResumed
        try await meeting.exchange(file: file, line: line)
        await meeting.close()
        return isResumed
    }
}

extension DtlsTicketKeys {
    /// A secret that a test can make again.
    static func secret(_ seed: UInt64) -> DtlsSecretBytes {
        var generator = SeededGenerator(seed: seed)
        return DtlsSecretBytes(generator.bytes(secretLength))
    }

    static func seeded(_ seeds: UInt64...) throws -> DtlsTicketKeys {
        try DtlsTicketKeys(secrets: seeds.map { secret($0) })
    }
}

extension DtlsConfiguration {
    /// Trusts the root of the tests' certificates, and presents one.
    static func trustingTestRoot(identity: DtlsIdentity? = nil) throws -> DtlsConfiguration {
        var configuration = DtlsConfiguration()
        configuration.trust = try TestIdentity.trust
        configuration.identity = identity
        return configuration
    }
}

extension DtlsSecretBytes {
    /// A copy that a test may change.
    var copy: [UInt8] { withUnsafeBytes { Array($0) } }
}

/// Keeps what closures are called with.
final class Recorder<Value: Sendable>: Sendable {
    private let state = Lock<[Value]>([])

    var values: [Value] { state.withLock { $0 } }

    func add(_ value: Value) {
        state.withLock { $0.append(value) }
    }
}
