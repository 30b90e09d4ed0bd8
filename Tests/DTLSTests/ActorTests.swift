import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Connections that actors hold.
final class ActorTests: XCTestCase {
    private actor Holder {
        private let connection: DtlsConnection
        private var isAsked = false

        init(_ connection: DtlsConnection) {
            self.connection = connection
        }

        private func ask() { isAsked = true }

        /// Reads until another task has had its turn on this actor, and returns how many datagrams that took.
        func readUntilAsked(atMost count: Int) async throws -> Int {
            var read = 0
            for try await _ in connection {
                assertIsolated()
                read += 1
                if read == 1 { Task { self.ask() } }
                if isAsked || read == count { break }
            }
            return read
        }

        private func readOne() async throws -> [UInt8]? {
            defer { assertIsolated() }
            var iterator = connection.makeAsyncIterator()
            return try await iterator.next(isolation: self)
        }

        /// Sends and reads in each way, one after the other.
        func goOn(with far: DtlsConnection) async throws {
            var iterator = connection.makeAsyncIterator()
            // One that is there.
            try await far.send("first")
            try await eventually("it is there") { [connection] in
                connection.statistics.payloadsReceived == 1
            }
            assertIsolated()
            let first = try await iterator.next(isolation: self)
            assertIsolated()
            XCTAssertEqual(first, Array("first".utf8))
            // One that is not yet.
            let sending = Task { try await far.send("second") }
            let second = try await iterator.next(isolation: self)
            assertIsolated()
            XCTAssertEqual(second, Array("second".utf8))
            try await sending.value
            try await connection.send("third")
            assertIsolated()
            do {
                try await connection.send([UInt8](repeating: 0, count: connection.maximumPayloadSize + 1))
                XCTFail("it was sent")
            } catch {
                assertIsolated()
                XCTAssertEqual(error.code, .payloadTooLarge)
            }
            // One that never comes.
            let reading = Task { try await self.readOne() }
            try await eventually("it waits") { [connection] in
                connection.association.state.withLock { !$0.inbox.readers.isEmpty }
            }
            reading.cancel()
            do {
                _ = try await reading.value
                XCTFail("something came")
            } catch {
                assertIsolated()
                XCTAssertEqual((error as? DtlsError)?.code, .cancelled)
            }
            connection.close()
            let reason = await connection.waitUntilClosed()
            assertIsolated()
            XCTAssertEqual(reason, .closedLocally)
            let end = try await iterator.next(isolation: self)
            assertIsolated()
            XCTAssertNil(end)
        }
    }

    /// Datagrams that are there are taken without leaving the actor, but not without end.
    func testAReaderLetsOthersHaveTheirTurn() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            for number in 1...300 {
                try await loopback.near.send("\(number)")
                guard number.isMultiple(of: 50) else { continue }
                try await eventually("they are there") { loopback.far.statistics.payloadsReceived == number }
            }
            let read = try await Holder(loopback.far).readUntilAsked(atMost: 300)
            XCTAssertLessThan(read, 150)
            await loopback.close()
        }
    }

    func testWhoWaitsOrFailsComesBackToItsActor() async throws {
        try await withDeadline {
            let loopback = try await Loopback()
            try await Holder(loopback.near).goOn(with: loopback.far)
            await loopback.close()
        }
    }
}
