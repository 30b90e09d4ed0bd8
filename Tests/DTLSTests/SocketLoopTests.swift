import DTLSCore
import DTLSPrimitives
import XCTest

@testable import DTLS

/// Wake-ups: how much one of them does, and what happens at its end.
final class SocketLoopTests: XCTestCase {
    /// What a wake-up has taken out of the socket beyond its bound does not keep others from their turn, and is not
    /// lost, though nothing in the socket wakes the loop for it.
    func testAFloodLeavesOthersTheirTurn() async throws {
        for offload in [UDPSocket.Offload(), .none] {
            try await withDeadline {
                let (sender, receiver) = (try Self.socket(), try Self.socket(offload))
                let total = SocketLoop.datagramsPerWakeup * 2 + 50
                // All of them are there before the loop is.
                Self.sendMany(total, from: sender, to: receiver)
                let loop = SocketLoop(socket: receiver, executor: .server())
                let atTurn = Lock<Int?>(nil)
                let recorder = LoopRecorder()
                recorder.setReaction { recorder, count, _ in
                    guard count == 1 else { return }
                    loop.perform { atTurn.withLock { $0 = recorder.received.count } }
                }
                loop.start(recorder)
                try await eventually("all datagrams") { recorder.received.count == total }
                XCTAssertEqual(recorder.received, (0..<total).map { Self.numbered($0) })
                let handled = try XCTUnwrap(atTurn.withLock { $0 })
                XCTAssertEqual(handled, SocketLoop.datagramsPerWakeup)
                loop.shutDown()
                await loop.waitUntilEnded()
            }
        }
    }

    /// Each datagram brings about another two, so that the socket is never empty.
    func testTimersGoOffInAnEndlessFlood() async throws {
        try await withDeadline {
            let socket = try Self.socket()
            let raw = try RawSocket()
            let loop = SocketLoop(socket: socket, executor: .server())
            let isOver = Lock(false)
            let recorder = LoopRecorder()
            recorder.setReaction { _, _, _ in
                guard !isOver.withLock({ $0 }) else { return }
                for _ in 0..<2 { raw.send([1], to: socket.localAddress) }
            }
            loop.start(recorder)
            raw.send([1], to: socket.localAddress)
            try await eventually("the flood") { recorder.received.count > 10 * SocketLoop.datagramsPerWakeup }
            loop.perform { isOver.withLock { $0 = true } }
            try await eventually("the turn of others") { isOver.withLock { $0 } }
            loop.shutDown()
            await loop.waitUntilEnded()
        }
    }

    /// One datagram after the other, each sent while the one before is handled: the loop looks again instead of being
    /// woken, and each comes at a later time than the one before.
    func testTheTimeGoesOnWhileTheLoopLooksAgain() async throws {
        try await withDeadline {
            let socket = try Self.socket()
            let raw = try RawSocket()
            let loop = SocketLoop(socket: socket, executor: .server())
            let recorder = LoopRecorder()
            let total = 4 * SocketLoop.datagramsPerWakeup
            recorder.setReaction { recorder, count, _ in
                guard count < total, let last = recorder.times.last else { return }
                while Moment.now == last {}
                raw.send([1], to: socket.localAddress)
            }
            loop.start(recorder)
            raw.send([1], to: socket.localAddress)
            try await eventually("all datagrams") { recorder.received.count == total }
            let times = recorder.times
            XCTAssertTrue(zip(times, times.dropFirst()).allSatisfy { $0 < $1 })
            loop.shutDown()
            await loop.waitUntilEnded()
        }
    }

    func testWhatAWakeUpSendsLeavesAtItsEnd() async throws {
        try await withDeadline {
            let handledAtSend = Lock<[Int]>([])
            let recorder = LoopRecorder()
            let sender = try Self.socket()
            let socket = try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0)) { [weak recorder] bytes, _ in
                handledAtSend.withLock { $0.append(recorder?.received.count ?? 0) }
                return .value(bytes.count)
            }
            let loop = SocketLoop(socket: socket, executor: .server())
            recorder.setReaction { [weak loop] _, count, source in
                XCTAssertEqual(loop?.executor.isAwake, true)
                XCTAssertEqual(socket.send([UInt8(count)], to: source), .sent)
            }
            for byte in 1...20 as ClosedRange<UInt8> { _ = sender.send([byte], to: socket.localAddress) }
            loop.start(recorder)
            try await eventually("all answers") { handledAtSend.withLock { $0.count } == 20 }
            XCTAssertEqual(handledAtSend.withLock { $0 }, Array(repeating: 20, count: 20))
            XCTAssertFalse(loop.executor.isAwake)
            loop.shutDown()
            await loop.waitUntilEnded()
        }
    }

    /// A backlog that begins at the end of a wake-up is flushed when there is room.
    func testWhatFindsNoRoomAtTheEndLeavesLater() async throws {
        try await withDeadline {
            let kernel = NarrowKernel(room: 2)
            let (sender, socket) = (try Self.socket(), try kernel.makeSocket())
            let loop = SocketLoop(socket: socket, executor: .server())
            let recorder = LoopRecorder()
            recorder.setReaction { _, count, source in
                XCTAssertEqual(socket.send([UInt8(count)], to: source), .sent)
                // Once all that was sent below has come, so that the wake-up's end is the next thing.
                if count == 5 { loop.perform { kernel.room = .max } }
            }
            for byte in 1...5 as ClosedRange<UInt8> { _ = sender.send([byte], to: socket.localAddress) }
            loop.start(recorder)
            try await eventually("all answers") { kernel.sent.count == 5 }
            XCTAssertEqual(kernel.sent, [[1], [2], [3], [4], [5]])
            XCTAssertEqual(socket.counters, UDPSocket.Counters(queued: 3, mostQueued: 3))
            loop.shutDown()
            await loop.waitUntilEnded()
        }
    }

    #if os(Linux)
        /// What was read, and is not in the socket any more, is handled before.
        func testStoppingToReadHandlesWhatWasRead() async throws {
            try await withDeadline {
                let (sender, receiver) = (try Self.socket(), try Self.socket())
                let total = SocketLoop.datagramsPerWakeup * 2 + 50
                Self.sendMany(total, from: sender, to: receiver)
                let loop = SocketLoop(socket: receiver, executor: .server())
                let recorder = LoopRecorder()
                let atStop = Lock<Int?>(nil)
                recorder.setReaction { recorder, count, _ in
                    guard count == 1 else { return }
                    // In line before the loop goes on with what the first wake-up leaves.
                    Task.immediate {
                        await loop.stopReading()
                        atStop.withLock { $0 = recorder.received.count }
                    }
                }
                loop.start(recorder)
                try await eventually("the stop") { atStop.withLock { $0 } != nil }
                let batch = DatagramBatch(capacity: 32, localPort: 0)
                var left = 0
                while case .datagrams = receiver.receive(into: batch) { while batch.next() != nil { left += 1 } }
                XCTAssertEqual(atStop.withLock { $0 }, recorder.received.count)
                XCTAssertEqual(recorder.received.count + left, total)
                loop.shutDown()
                await loop.waitUntilEnded()
            }
        }
    #endif

    /// The alerts of a close that a datagram brings about on the loop, at the end of which the loop ends.
    func testCloseNotifyLeavesALoopThatEnds() async throws {
        try await withDeadline {
            let (sender, socket) = (try RawSocket(), try Self.socket())
            let loop = SocketLoop(socket: socket, executor: .server())
            let recorder = LoopRecorder()
            recorder.setReaction { _, _, source in
                loop.shutDown()
                XCTAssertEqual(socket.send([9], to: source), .sent)
            }
            loop.start(recorder)
            sender.send([1], to: socket.localAddress)
            await loop.waitUntilEnded()
            XCTAssertEqual(sender.receiveAll(), [[9]])
        }
    }

    /// In messages of up to 50 datagrams.
    private static func sendMany(_ count: Int, from sender: UDPSocket, to receiver: UDPSocket) {
        for start in stride(from: 0, to: count, by: 50) {
            sender.gather {
                for byte in start..<min(start + 50, count) {
                    XCTAssertEqual(sender.send(Self.numbered(byte), to: receiver.localAddress), .sent)
                }
            }
        }
    }

    /// As an open connection's record begins, so that the order is that in which they come.
    private static func numbered(_ number: Int) -> [UInt8] { [23, UInt8(truncatingIfNeeded: number)] }

    private static func socket(_ offload: UDPSocket.Offload = .init()) throws -> UDPSocket {
        try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0), offload: offload)
    }
}

/// Keeps what a loop reads, and does what the test says about it.
private final class LoopRecorder: SocketLoopHandler {
    typealias Reaction = @Sendable (_ recorder: LoopRecorder, _ count: Int, _ source: DtlsAddress) -> Void

    private let state = Lock((received: [[UInt8]](), times: [Moment](), reaction: Reaction?.none))

    var received: [[UInt8]] { state.withLock { $0.received } }
    /// What the loop took the time to be at each.
    var times: [Moment] { state.withLock { $0.times } }

    func setReaction(_ reaction: @escaping Reaction) { state.withLock { $0.reaction = reaction } }

    func receive(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsAddress,
        to local: DtlsAddress?,
        on loop: SocketLoop,
        now: Moment
    ) {
        let (count, reaction) = state.withLock { state in
            state.received.append(Array(datagram))
            state.times.append(now)
            return (state.received.count, state.reaction)
        }
        reaction?(self, count, source)
    }

    func networkReported(_ error: NetworkError, now: Moment) {}
    func socketFailed(_ error: DtlsError, of loop: SocketLoop) { XCTFail("\(error)") }
}
