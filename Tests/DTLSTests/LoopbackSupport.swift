import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

// MARK: - Deadlines

struct TestFailure: Error, CustomStringConvertible {
    let description: String
}

/// Runs a test's body. When it has not returned after `seconds`, the test fails, even if the body never notices its
/// cancellation.
///
/// No test needs the time: the deadline is there so that a fault cannot hang the run.
func withDeadline(seconds: Double = 20, _ body: @escaping @Sendable () async throws -> Void) async throws {
    let (outcomes, report) = AsyncStream<Result<Void, any Error>>.makeStream()
    let work = Task {
        do {
            try await body()
            report.yield(.success(()))
        } catch {
            report.yield(.failure(error))
        }
    }
    let alarm = Task {
        try await Task.sleep(for: .seconds(seconds))
        report.yield(.failure(TestFailure(description: "not done after \(seconds) seconds")))
        work.cancel()
    }
    defer { alarm.cancel() }
    for await outcome in outcomes { return try outcome.get() }
}

/// Waits until a condition holds; throws when it does not within `seconds`.
func eventually(
    within seconds: Double = 10,
    _ what: String,
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            throw TestFailure(description: "not within \(seconds) seconds: \(what)")
        }
        try await Task.sleep(for: .milliseconds(1))
    }
}

/// Something that tasks wait for until a test opens it.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Lock(State())

    var waiterCount: Int { state.withLock { $0.waiters.count } }

    func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}

/// The error that `body` throws; a failure of the test when it throws none or another kind.
func failure<Value>(
    file: StaticString = #filePath,
    line: UInt = #line,
    of body: () async throws -> Value
) async -> DtlsError? {
    do {
        let value = try await body()
        XCTFail("nothing was thrown, but \(value) returned", file: file, line: line)
    } catch let error as DtlsError {
        return error
    } catch {
        XCTFail("\(error) was thrown", file: file, line: line)
    }
    return nil
}

// MARK: - Credentials

enum Credentials {
    static let key = Array("the key that nobody must see".utf8)

    static func preSharedKey(_ identity: String = "client", key: [UInt8] = key) throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: identity, key: key)
    }

    /// A self-signed certificate for the names and addresses of loopback.
    static func localhost() throws -> DtlsIdentity { try made.get() }

    private static let made = Result {
        try DtlsIdentity.selfSigned(commonName: "localhost", names: ["localhost", "127.0.0.1", "::1"])
    }
}

extension DtlsConfiguration {
    static func make(_ change: (inout DtlsConfiguration) -> Void) -> DtlsConfiguration {
        var configuration = DtlsConfiguration()
        change(&configuration)
        return configuration
    }

    /// Nothing is ever sent again: a handshake that needs it fails.
    static let neverRetransmitting = make { $0.setNoRetransmission() }

    mutating func setNoRetransmission() {
        retransmission = DtlsRetransmissionPolicy(initialTimeout: .seconds(60), maximumTimeout: .seconds(60), jitter: 0)
    }

    /// What depends on a server's timer is soon done.
    static let eager = make { $0.setRetransmission(.milliseconds(30)) }

    /// For the clients of such servers; later than these, so that the servers' timers fire between.
    static let lessEager = make { $0.setRetransmission(.milliseconds(70)) }

    mutating func setRetransmission(_ interval: Duration) {
        retransmission = DtlsRetransmissionPolicy(initialTimeout: interval, factor: 1, jitter: 0)
    }
}

extension DtlsServerLimits {
    static func make(_ change: (inout DtlsServerLimits) -> Void) -> DtlsServerLimits {
        var limits = DtlsServerLimits()
        change(&limits)
        return limits
    }
}

extension DtlsConnection {
    /// What the peer's Connection ID adds to a record (RFC 9146 §4): itself, and a byte.
    var connectionIDOverhead: Int {
        guard let id = negotiated.connectionIDs?.peer, !id.isEmpty else { return 0 }
        return id.count + 1
    }
}

extension DtlsClientContext {
    static func preSharedKey(
        _ key: DtlsPreSharedKey? = nil,
        _ configuration: DtlsConfiguration = DtlsConfiguration()
    ) throws -> DtlsClientContext {
        try DtlsClientContext(configuration, preSharedKey: key ?? Credentials.preSharedKey())
    }

    /// Trusts the chains of `identity`.
    static func trusting(
        _ identity: DtlsIdentity,
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        verification: DtlsServerVerification = .chainAndName
    ) throws -> DtlsClientContext {
        var configuration = configuration
        configuration.trust = .certificates(identity.certificateChain)
        return try DtlsClientContext(configuration, verification: verification)
    }
}

extension DtlsServerContext {
    static func preSharedKey(
        _ configuration: DtlsConfiguration = DtlsConfiguration(),
        unknownIdentity: DtlsUnknownIdentityPolicy = .pretendWrongKey
    ) throws -> DtlsServerContext {
        let store = DtlsPreSharedKeyStore([try Credentials.preSharedKey()])
        return try DtlsServerContext(configuration, preSharedKeys: store, unknownIdentity: unknownIdentity)
    }

    static func presenting(
        _ identity: DtlsIdentity,
        _ configuration: DtlsConfiguration = DtlsConfiguration()
    ) throws -> DtlsServerContext {
        var configuration = configuration
        configuration.identity = identity
        return try DtlsServerContext(configuration)
    }
}

// MARK: - Peers

extension DtlsServer {
    static func onLoopback(
        _ context: DtlsServerContext? = nil,
        limits: DtlsServerLimits = DtlsServerLimits()
    ) async throws -> DtlsServer {
        try await bind(host: "127.0.0.1", port: 0, context: try context ?? .preSharedKey(), limits: limits)
    }

    /// The next connection.
    func accept() async throws -> DtlsConnection {
        var connections = makeAsyncIterator()
        guard let connection = await connections.next() else {
            throw TestFailure(description: "the server was closed, or the task cancelled")
        }
        return connection
    }

    /// Accepts every connection and sends back what comes, until the server is closed. The task's value says how many
    /// came.
    func echo() -> Task<Int, Never> {
        Task {
            var count = 0
            for await connection in self {
                count += 1
                Task { for try await datagram in connection { try await connection.send(datagram) } }
            }
            return count
        }
    }
}

extension DtlsClient {
    static func onLoopback() async throws -> DtlsClient {
        try await bind(host: "127.0.0.1")
    }
}

extension DtlsConnection {
    /// The next datagram; `nil` at the end.
    func receive() async throws -> [UInt8]? {
        var datagrams = makeAsyncIterator()
        return try await datagrams.next()
    }

    func receiveText() async throws -> String? {
        try await receive().map { String(decoding: $0, as: UTF8.self) }
    }

    /// Sends a text to a peer that echoes, and checks what comes back.
    func expectEcho(_ text: String = "echo", file: StaticString = #filePath, line: UInt = #line) async throws {
        try await send(text)
        let answer = try await receiveText()
        XCTAssertEqual(answer, text, file: file, line: line)
    }

    /// Checks that a datagram arrives at another connection.
    func expectArrival(
        at other: DtlsConnection,
        _ text: String = "arrives",
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws {
        try await send(text)
        let arrived = try await other.receiveText()
        XCTAssertEqual(arrived, text, file: file, line: line)
    }
}

/// A client and a server with one connection between them.
struct Loopback: Sendable {
    let server: DtlsServer
    let client: DtlsClient
    /// The client's end of the connection.
    let near: DtlsConnection
    /// The server's end of the connection.
    let far: DtlsConnection
    private let relayBetween: Relay?

    init(
        _ clientContext: DtlsClientContext? = nil,
        _ serverContext: DtlsServerContext? = nil,
        serverName: String? = nil,
        relayed: Bool = false,
        limits: DtlsServerLimits = DtlsServerLimits(),
        timeout: Duration? = nil,
        reconnection: DtlsReconnection = .never
    ) async throws {
        server = try await .onLoopback(serverContext, limits: limits)
        client = try await .onLoopback()
        relayBetween = relayed ? try Relay(to: server.localAddress) : nil
        let address = relayBetween?.address ?? server.localAddress
        let context = try clientContext ?? .preSharedKey()
        near = try await client.connect(
            to: address,
            context: context,
            serverName: serverName,
            timeout: timeout,
            reconnection: reconnection
        )
        far = try await server.accept()
    }

    /// What stands between the two, if it was asked for.
    var relay: Relay { get throws { try XCTUnwrap(relayBetween) } }

    func close() async {
        await client.close()
        await server.close()
    }
}
