import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

#if os(Linux)
    import Glibc

    final class ManyClientsTests: XCTestCase {
        /// As many clients as a program may have, all of them busy at once, keep to a few dozen threads.
        func testClientsShareThreads() async throws {
            try await withDeadline(seconds: 60) {
                let server = try await DtlsServer.onLoopback()
                let serving = Task {
                    await server.serve { connection in
                        for try await datagram in connection { try await connection.send(datagram) }
                    }
                }
                let context = try DtlsClientContext.preSharedKey()
                let before = try Self.threadCount()
                let most = Lock(before)
                try await withThrowingTaskGroup(of: DtlsClient.self) { group in
                    for _ in 0..<200 {
                        group.addTask {
                            let client = try await DtlsClient.onLoopback()
                            let connection = try await client.connect(to: server.localAddress, context: context)
                            for round in 0..<20 {
                                try await connection.send("round \(round)")
                                _ = try await connection.receiveText()
                            }
                            let count = try Self.threadCount()
                            most.withLock { $0 = max($0, count) }
                            return client
                        }
                    }
                    for try await client in group { await client.close() }
                }
                // Beside the lanes there are the threads of Swift's tasks, and what Dispatch adds for a moment.
                XCTAssertLessThan(most.withLock { $0 } - before, 3 * ClientLanes.count)
                await server.close()
                await serving.value
            }
        }

        private static func threadCount() throws -> Int {
            let path = "/proc/self/task"
            guard let directory = opendir(path) else { throw TestFailure(description: "\(path) cannot be read") }
            defer { closedir(directory) }
            var count = 0
            while readdir(directory) != nil { count += 1 }
            return count - 2
        }
    }
#endif
