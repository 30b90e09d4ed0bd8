import DTLS
import Logging
import ServiceLifecycle
import Synchronization
import XCTest

enum Support {
    static func preSharedKey() throws -> DtlsPreSharedKey {
        try DtlsPreSharedKey(identity: "sensor-1", key: Array("0123456789abcdef".utf8))
    }

    static func bindServer(loops: Int = 1) async throws -> DtlsServer {
        let context = try DtlsServerContext(preSharedKeys: DtlsPreSharedKeyStore([try preSharedKey()]))
        return try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: context, loops: loops)
    }

    static func clientContext(_ configuration: DtlsConfiguration = DtlsConfiguration()) throws -> DtlsClientContext {
        try DtlsClientContext(configuration, preSharedKey: preSharedKey())
    }

    static func group(_ services: any Service...) -> ServiceGroup {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        return ServiceGroup(services: services, logger: logger)
    }

    /// Echoes until the end.
    static let echo: @Sendable (DtlsConnection) async throws -> Void = { connection in
        for try await datagram in connection { try await connection.send(datagram) }
    }
}

extension DtlsConnection {
    func receiveText() async throws -> String? {
        for try await datagram in self { return String(decoding: datagram, as: UTF8.self) }
        return nil
    }

    /// Sends something and expects it back.
    func expectEcho(_ text: String, line: UInt = #line) async throws {
        try await send(text)
        let answer = try await receiveText()
        XCTAssertEqual(answer, text, line: line)
    }
}

/// Fails a test that would not end: after half a minute its task is cancelled.
func withDeadline(_ body: @escaping @Sendable () async throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: .seconds(30))
            throw TestFailure(description: "not within 30 s")
        }
        try await group.next()
        group.cancelAll()
    }
}

/// Statistics that grow with each look.
final class Sums: Sendable {
    private let looks = Mutex(0)

    var count: Int { looks.withLock { $0 } }

    func next() -> DtlsStatistics {
        var statistics = DtlsStatistics()
        statistics.cookiesSent = looks.withLock { looks in
            looks += 1
            return looks
        }
        return statistics
    }
}
