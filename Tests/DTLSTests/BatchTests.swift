import DTLSCore
import DTLSPrimitives
import Dispatch
import XCTest

@testable import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a socket sends while its loop is awake, and how it arrives.
final class BatchTests: XCTestCase {
    /// Everything, nothing, and each thing missing alone, as on systems that do not have it.
    private static let offloads: [UDPSocket.Offload] = [
        UDPSocket.Offload(), .none, UDPSocket.Offload(receivesMany: false), UDPSocket.Offload(coalesces: false),
        UDPSocket.Offload(sendsMany: false), UDPSocket.Offload(segments: false),
    ]

    /// One message alone is read alone, but it is seen again, soon, whether there are more.
    func testReadsOfOneMessageAreTriedForMoreAgain() {
        var lone = LoneReads()
        XCTAssertFalse(lone.isLikely(), "nothing is known yet")
        lone.found(1)
        var reads = 0
        while lone.isLikely(), reads < 1_000 { reads += 1 }
        XCTAssertEqual(reads, 15)
        lone.found(1)
        XCTAssertTrue(lone.isLikely())
        lone.found(2)
        XCTAssertFalse(lone.isLikely(), "there were more")
    }

    func testWhatIsGatheredLeavesAtTheEnd() throws {
        for offload in Self.offloads {
            let (sender, receiver) = (try socket(offload), try RawSocket())
            sender.gather {
                XCTAssertEqual(sender.send([1], to: receiver.address), .sent)
                XCTAssertEqual(sender.send([], to: receiver.address), .sent)
                XCTAssertEqual(sender.send([2, 2], to: receiver.address), .sent)
                XCTAssertNil(receiver.receiveNow(), "it left at once")
            }
            XCTAssertEqual(receiver.receiveAll(), [[1], [], [2, 2]])
            XCTAssertEqual(sender.send([3], to: receiver.address), .sent)
            XCTAssertEqual(receiver.receiveAll(), [[3]])
            XCTAssertEqual(sender.counters, UDPSocket.Counters())
        }
    }

    func testTheArenaSendsWhenItIsFull() throws {
        let (sender, receiver) = (try socket(), try RawSocket())
        let count = DatagramArena.maximumCount + 1
        sender.gather {
            for index in 0..<count { XCTAssertEqual(sender.send([UInt8(index)], to: receiver.address), .sent) }
            XCTAssertEqual(receiver.receiveAll().count, count - 1)
        }
        XCTAssertEqual(receiver.receiveAll(), [[UInt8(count - 1)]])
        // Three that are as large as datagrams can be: no two of them have room.
        let large = (1...3).map { [UInt8](repeating: UInt8($0), count: 65_507) }
        for bytes in large + [[4]] {
            sender.gather {
                for _ in 0..<3 { XCTAssertEqual(sender.send(bytes, to: receiver.address), .sent) }
            }
            XCTAssertEqual(receiver.receiveAll(), [bytes, bytes, bytes])
        }
    }

    /// Runs of one length, runs that end with a shorter one, lengths that grow, empty ones, large ones, two peers in
    /// turns.
    func testABurstOfMixedSizesArrivesIntactAndInOrder() throws {
        for (number, offload) in Self.offloads.enumerated() {
            for host in ["127.0.0.1", "::1"] {
                guard let sender = try? socket(offload, host: host) else { continue }
                let receivers = [try socket(offload, host: host), try socket(offload, host: host)]
                var generator = SplitMix(seed: UInt64(number + 1))
                var index: UInt32 = 0
                for round in 0..<24 {
                    var expected: [[[UInt8]]] = [[], []]
                    sender.gather {
                        var length = 0
                        var peer = 0
                        for _ in 0..<Int.random(in: 1...80, using: &generator) {
                            switch Int.random(in: 0..<10, using: &generator) {
                            case 0: length = 0
                            case 1: length = Int.random(in: 0...1_400, using: &generator)
                            case 2: length = max(0, length - 1)
                            case 3: peer = 1 - peer
                            case 4 where round % 8 == 0: length = 20_000
                            default: length = min(length, 1_400)
                            }
                            index += 1
                            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: Int(index) &+ $0) }
                            expected[peer].append(bytes)
                            XCTAssertEqual(sender.send(bytes, to: receivers[peer].localAddress), .sent)
                        }
                    }
                    for (receiver, bytes) in zip(receivers, expected) {
                        XCTAssertEqual(
                            try receiver.readAll(from: sender.localAddress),
                            bytes,
                            "seed \(number + 1), round \(round), \(host), \(offload)"
                        )
                    }
                }
                XCTAssertEqual(sender.counters, UDPSocket.Counters())
            }
        }
    }

    #if os(Linux)
        func testTheKernelTakesRunsApartAndPutsThemTogether() throws {
            let sender = try socket()
            guard case .value = SystemCall.option(sender.descriptor, SystemCall.udp, 103) else {
                throw XCTSkip("this kernel has no UDP_SEGMENT")
            }
            for coalesces in [true, false] {
                let receiver = try socket(UDPSocket.Offload(coalesces: coalesces))
                let sent = (0..<20 as Range<UInt8>).map { [UInt8](repeating: $0, count: $0 == 19 ? 10 : 1_000) }
                sender.gather { for bytes in sent { _ = sender.send(bytes, to: receiver.localAddress) } }
                let batch = DatagramBatch(capacity: 32, localPort: 0)
                let outcome = batch.read(from: receiver.descriptor)
                XCTAssertEqual(outcome, .value(coalesces ? 1 : 20))
                var received: [[UInt8]] = []
                while let datagram = batch.next() {
                    XCTAssertEqual(batch.source, sender.localAddress)
                    received.append(Array(datagram))
                }
                XCTAssertEqual(received, sent)
            }
            XCTAssertEqual(sender.state.withLock { $0.segments }, true)
        }

        /// Without checksums the kernel takes nothing apart (`EINVAL`), as do interfaces that cannot compute them.
        func testWhatIsNotTakenApartIsSentOneByOne() throws {
            let (sender, receiver) = (try socket(), try socket())
            XCTAssertNil(SystemCall.setOption(sender.descriptor, SOL_SOCKET, SO_NO_CHECK, 1))
            let sent = (0..<20 as Range<UInt8>).map { [UInt8](repeating: $0, count: 100) }
            for round in 0..<66 {
                sender.gather { for bytes in sent { _ = sender.send(bytes, to: receiver.localAddress) } }
                XCTAssertEqual(try receiver.readAll(from: sender.localAddress), sent)
                // A single peer's path may be the reason, for a while.
                XCTAssertEqual(sender.state.withLock { $0.segments }, round < 63, "round \(round)")
            }
            XCTAssertEqual(sender.counters, UDPSocket.Counters())
        }

        func testTheCallersSocketIsNotLeftCoalescing() throws {
            let raw = try RawSocket()
            let adopted = try UDPSocket.adopt(descriptor: raw.descriptor, takesOwnership: false)
            let during = SystemCall.option(raw.descriptor, SystemCall.udp, 104)
            adopted.close()
            let after = SystemCall.option(raw.descriptor, SystemCall.udp, 104)
            guard case .value = during else { throw XCTSkip("this kernel does not tell of UDP_GRO") }
            XCTAssertEqual([during, after], [.value(1), .value(0)])
        }

        /// What an earlier datagram has met is not what happens to those that are gathered.
        func testARefusalOfAnEarlierOneLosesNone() throws {
            let (sender, receiver) = (try socket(), try RawSocket())
            let closed = try closedPort("127.0.0.1")
            XCTAssertEqual(sender.send([1], to: closed), .sent)
            XCTAssertTrue(isReadable(sender.readiness, within: 5_000), "no refusal came back")
            sender.gather {
                for index in 2..<5 as Range<UInt8> { _ = sender.send([index], to: receiver.address) }
                _ = sender.send([5], to: closed)
                _ = sender.send([6], to: receiver.address)
            }
            XCTAssertEqual(receiver.receiveAll(), [[2], [3], [4], [6]])
            XCTAssertTrue(isReadable(sender.readiness, within: 5_000), "no refusal came back")
            let reports = sender.takeNetworkErrors()
            XCTAssertEqual(Set(reports.map(\.code)), [ECONNREFUSED])
            XCTAssertEqual(Set(reports.map(\.peer)), [closed])
            XCTAssertEqual(reports.count, 2)
            XCTAssertEqual(sender.counters, UDPSocket.Counters())
        }

        func testTheLocalAddressGoesAlong() throws {
            let sender = try socket(host: "0.0.0.0")
            let receiver = try socket(host: "0.0.0.0")
            let port = sender.localAddress.port
            let to = try DtlsAddress(ipAddress: "127.0.0.9", port: receiver.localAddress.port)
            // Never one message: they leave from different addresses. The last is of no interface here.
            let hosts = ["127.0.0.2", "127.0.0.2", "127.0.0.3", "192.0.2.1"]
            sender.gather {
                for (index, host) in hosts.enumerated() {
                    let local = try? DtlsAddress(ipAddress: host, port: 0)
                    let result = [UInt8(index)].withUnsafeBytes { sender.send($0, to: to, from: local) }
                    XCTAssertEqual(result, .sent)
                }
            }
            let batch = DatagramBatch(capacity: 8, localPort: receiver.localAddress.port)
            XCTAssertEqual(receiver.receive(into: batch), .datagrams)
            var sources: [String] = []
            while batch.next() != nil {
                XCTAssertEqual(batch.local, to)
                XCTAssertEqual(batch.source.port, port)
                sources.append(batch.source.host)
            }
            XCTAssertEqual(sources, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.1"])
        }
    #endif

    func testWhatOtherThreadsSendDoesNotOvertake() throws {
        let (sender, receiver) = (try socket(), try RawSocket())
        sender.gather {
            for byte in [1, 2] as [UInt8] { XCTAssertEqual(sender.send([byte], to: receiver.address), .sent) }
            let done = DispatchSemaphore(value: 0)
            let address = receiver.address
            // Another thread, as this one waits.
            DispatchQueue.global().async {
                XCTAssertEqual(sender.send([3], to: address), .sent)
                done.signal()
            }
            done.wait()
            XCTAssertEqual(receiver.receiveAll(), [[1], [2], [3]])
            XCTAssertEqual(sender.send([4], to: receiver.address), .sent)
            XCTAssertNil(receiver.receiveNow())
        }
        XCTAssertEqual(receiver.receiveAll(), [[4]])
    }

    func testClosingSendsWhatWasGathered() throws {
        let (sender, receiver) = (try socket(), try RawSocket())
        sender.gather {
            XCTAssertEqual(sender.send([1], to: receiver.address), .sent)
            sender.close()
            XCTAssertEqual(receiver.receiveAll(), [[1]])
            XCTAssertEqual(sender.send([2], to: receiver.address), .dropped)
        }
        XCTAssertEqual(receiver.receiveAll(), [])
    }

    func testWhatTheSystemNeverTakesIsRefusedAtOnce() throws {
        let sender = try socket()
        let foreign = try DtlsAddress(ipAddress: "::1", port: 9)
        sender.gather { XCTAssertEqual(sender.send([1], to: foreign), .failed(EAFNOSUPPORT)) }
    }

    /// Nobody waits for what becomes of them.
    func testOneThatIsTooLargeDoesNotHoldUpTheOthers() throws {
        for offload in Self.offloads {
            let (sender, receiver) = (try socket(offload), try RawSocket())
            let told = Lock(0)
            sender.setErrorHandler { told.withLock { $0 += 1 } }
            sender.gather {
                for count in [100, 65_508, 100, 100] {
                    XCTAssertEqual(sender.send([UInt8](repeating: 1, count: count), to: receiver.address), .sent)
                }
            }
            XCTAssertEqual(receiver.receiveAll().map(\.count), [100, 100, 100])
            XCTAssertEqual(told.withLock { $0 }, 1)
            // Linux says what fits, for each try.
            let report = try XCTUnwrap(sender.takeNetworkErrors().last)
            XCTAssertEqual(report.peer, receiver.address)
            XCTAssertEqual(report.code, EMSGSIZE)
            XCTAssertTrue([8_972, 65_507].contains(report.largestDatagram), "\(report)")
            XCTAssertEqual(sender.counters, UDPSocket.Counters(failed: 1, gatheredFailed: 1))
        }
    }

    // MARK: A kernel that has no room

    /// One message, where they may be one: refused as such first, so that the room ends in the midst of it.
    func testWhatFindsNoRoomWaitsInOrder() throws {
        for offload in Self.offloads {
            for room in 0...4 {
                let kernel = NarrowKernel(room: room)
                let sender = try kernel.makeSocket(offload)
                let calls = Lock(0)
                sender.setBacklogHandler { calls.withLock { $0 += 1 } }
                sender.gather {
                    for byte in 1...4 as ClosedRange<UInt8> {
                        XCTAssertEqual(sender.send([byte], to: sender.localAddress), .sent)
                    }
                }
                XCTAssertEqual(kernel.sent, Array([[1], [2], [3], [4]].prefix(room)))
                XCTAssertEqual(sender.hasRoom, room == 4)
                XCTAssertEqual(calls.withLock { $0 }, room == 4 ? 0 : 1)
                let later = room == 4 ? [] : [[5], [6]] as [[UInt8]]
                sender.gather {
                    for bytes in later { XCTAssertEqual(sender.send(bytes, to: sender.localAddress), .queued) }
                }
                kernel.room = .max
                XCTAssertTrue(sender.flushBacklog())
                XCTAssertEqual(kernel.sent, [[1], [2], [3], [4]] + later)
                XCTAssertEqual(sender.counters.queued, UInt64(4 - room + later.count))
            }
        }
    }

    func testFailuresInTheMiddleAreCountedAndTold() throws {
        for offload in Self.offloads {
            let kernel = NarrowKernel(room: .max)
            let sender = try kernel.makeSocket(offload)
            let peer = sender.localAddress
            sender.gather {
                // By the first byte: EPERM, ENOBUFS.
                for bytes in [[1], [201], [2], [202], [202], [3]] as [[UInt8]] {
                    XCTAssertEqual(sender.send(bytes, to: peer), .sent)
                }
            }
            XCTAssertEqual(kernel.sent, [[1], [2], [3]])
            let counters = UDPSocket.Counters(
                dropped: 2,
                congested: 2,
                failed: 1,
                gatheredDropped: 2,
                gatheredFailed: 1
            )
            XCTAssertEqual(sender.counters, counters)
            let statistics = EndpointCounters().statistics([], counters)
            XCTAssertEqual(statistics.sendFailures, 1)
            XCTAssertEqual(statistics.drops[.sendQueueFull], 2)
            let report = NetworkError(peer: peer, code: EPERM, isLocal: true, largestDatagram: nil)
            XCTAssertEqual(sender.takeNetworkErrors(), [report])
        }
    }

    func testSendersOnEveryThreadKeepTheirOrder() throws {
        let kernel = NarrowKernel(room: .max)
        let sender = try kernel.makeSocket()
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            for number in 0..<200 as Range<UInt8> {
                if thread == 0, number % 5 == 0 { sender.beginGathering() }
                if thread == 1, number % 10 == 0 { kernel.room = number % 20 == 0 ? 0 : .max }
                if thread == 2, number % 5 == 0 { _ = sender.flushBacklog() }
                _ = sender.send([UInt8(thread), number], to: sender.localAddress)
                if thread == 0, number % 5 == 4 {
                    sender.sendGathered()
                    sender.endGathering()
                }
            }
        }
        kernel.room = .max
        XCTAssertTrue(sender.flushBacklog())
        XCTAssertEqual(kernel.sent.count, 800)
        for thread in 0..<4 as Range<UInt8> {
            XCTAssertEqual(kernel.sent.filter { $0[0] == thread }.map { $0[1] }, Array(0..<200))
        }
    }

    private func socket(_ offload: UDPSocket.Offload = .init(), host: String = "127.0.0.1") throws -> UDPSocket {
        try UDPSocket.bind(DtlsAddress(ipAddress: host, port: 0), offload: offload)
    }
}

// MARK: - Helpers

/// A kernel with as much room as the test says.
final class NarrowKernel: Sendable {
    private let state: Lock<(room: Int, sent: [[UInt8]])>

    init(room: Int) {
        state = Lock((room, []))
    }

    var sent: [[UInt8]] { state.withLock { $0.sent } }

    var room: Int {
        get { state.withLock { $0.room } }
        set { state.withLock { $0.room = newValue } }
    }

    func makeSocket(_ offload: UDPSocket.Offload = .init()) throws -> UDPSocket {
        try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0), offload: offload) { bytes, _ in
            self.state.withLock { state in
                switch bytes.first {
                case 201: return .failed(EPERM)
                case 202: return .failed(ENOBUFS)
                default: break
                }
                guard state.room > 0 else { return .wouldBlock }
                state.room -= 1
                state.sent.append([UInt8](bytes))
                return .value(bytes.count)
            }
        }
    }
}

extension UDPSocket {
    func send(_ bytes: [UInt8], to address: DtlsAddress) -> SendResult {
        bytes.withUnsafeBytes { send($0, to: address) }
    }

    /// Sends as a loop does while it is awake.
    func gather(_ body: () throws -> Void) rethrows {
        beginGathering()
        defer {
            sendGathered()
            endGathering()
        }
        try body()
    }

    /// Reads all that is there.
    fileprivate func readAll(from source: DtlsAddress) throws -> [[UInt8]] {
        let batch = DatagramBatch(
            capacity: 8,
            localPort: localAddress.port,
            readsMany: offload.receivesMany
        )
        var received: [[UInt8]] = []
        while true {
            switch receive(into: batch) {
            case .datagrams:
                while let datagram = batch.next() {
                    XCTAssertEqual(batch.source, source)
                    received.append(Array(datagram))
                }
                XCTAssertTrue(batch.isEmpty)
            case .wouldBlock: return received
            case .retry: continue
            case .failed(let error): throw TestFailure(description: "errno \(error)")
            }
        }
    }
}

extension RawSocket {
    func receiveAll() -> [[UInt8]] {
        var received: [[UInt8]] = []
        while let (bytes, _) = receiveNow() { received.append(bytes) }
        return received
    }
}
