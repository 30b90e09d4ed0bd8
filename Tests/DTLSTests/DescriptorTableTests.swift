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

/// A process that has no descriptor left.
final class DescriptorTableTests: XCTestCase {
    func testAFullDescriptorTableIsSurvived() async throws {
        let server = try await DtlsServer.onLoopback()
        let echo = server.echo()
        let client = try await DtlsClient.onLoopback()
        let before = try await client.connect(to: server.localAddress, context: .preSharedKey())
        try await before.expectEcho()

        let table = try FullTable()
        // Nothing in between may throw past the end of the shortage.
        let outcome = await Task {
            try await withDeadline {
                try await before.expectEcho("with a full table")
                // A new association takes no descriptor.
                before.close()
                let anew = try await client.connect(to: server.localAddress, context: .preSharedKey())
                try await anew.expectEcho("anew")
                for error in [
                    await failure(of: { try await DtlsClient.bind(host: "127.0.0.1") }),
                    await failure(of: {
                        try await DtlsServer.bind(host: "127.0.0.1", port: 0, context: .preSharedKey())
                    }),
                ] {
                    XCTAssertEqual(error?.code, .socketFailed)
                    XCTAssertEqual(error?.systemError, EMFILE)
                    XCTAssertEqual(error?.phase, .binding)
                    XCTAssertTrue(error?.hint?.contains("ulimit -n") ?? false)
                }
                try await anew.expectEcho("still")
            }
        }.result
        table.giveBack()
        try outcome.get()

        let after = try await DtlsClient.onLoopback()
        let connection = try await after.connect(to: server.localAddress, context: .preSharedKey())
        try await connection.expectEcho()
        for client in [client, after] { await client.close() }
        await server.close()
        _ = await echo.value
    }

    #if os(Linux)
        /// A socket takes two descriptors. When there is one left, it is not lost, nor is the caller's.
        func testASocketThatCannotBeWaitedForIsGivenBack() async throws {
            let raw = try RawSocket()
            let before = try openSockets()
            let table = try FullTable(leaving: 1)
            let bound = Result { try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0)) }
            // What was opened has been closed: there is one left again, unless Dispatch has taken it for good.
            let spare = openOnceThereIsRoom()
            let adopted = Result { try UDPSocket.adopt(descriptor: raw.descriptor, takesOwnership: true) }
            if spare >= 0 { closeDescriptor(spare) }
            table.giveBack()
            for result in [bound, adopted] {
                XCTAssertThrowsError(try result.get()) { error in
                    XCTAssertEqual((error as? DtlsError)?.systemError, EMFILE)
                    XCTAssertNotNil((error as? DtlsError)?.hint)
                }
            }
            try await eventually("all descriptors given back") { try openSockets().subtracting(before).isEmpty }
            XCTAssertNotNil(inode(of: raw.descriptor), "the caller's descriptor was closed")
        }

        /// Sockets of one port are taken together or not at all: somebody takes a descriptor that is wanted for one of
        /// them, at whatever instant, and all are still the caller's.
        func testSocketsThatAreNotAllTakenAreAllGivenBack() async throws {
            let options = DtlsSocketOptions(reusePort: true)
            let first = try UDPSocket.bind(DtlsAddress(ipAddress: "127.0.0.1", port: 0), options: options)
            let second = try UDPSocket.bind(first.localAddress, options: options)
            var descriptors = [duplicate(first.descriptor), duplicate(second.descriptor)]
            let table = try FullTable(leaving: 2)
            let isOver = Lock(false)
            let thief = DispatchGroup()
            DispatchQueue.global().async(group: thief) {
                while !isOver.withLock({ $0 }) {
                    let descriptor = open("/dev/null", O_RDONLY)
                    if descriptor >= 0 { closeDescriptor(descriptor) }
                }
            }
            var refusals = 0
            var lost = 0
            for _ in 0..<5_000 where lost == 0 {
                let before = descriptors.map(inode)
                let adopted = Result { try UDPSocket.adopt(descriptors: descriptors, takesOwnership: true) }
                switch adopted {
                case .success(let sockets):
                    for socket in sockets { socket.close() }
                    descriptors = [duplicateSoon(first.descriptor), duplicateSoon(second.descriptor)]
                case .failure:
                    refusals += 1
                    lost = zip(before, descriptors.map(inode)).count { $0 != $1 }
                }
            }
            isOver.withLock { $0 = true }
            await withCheckedContinuation { continuation in thief.notify(queue: .global()) { continuation.resume() } }
            table.giveBack()
            XCTAssertEqual(lost, 0, "descriptors of the caller were closed")
            XCTAssertGreaterThan(refusals, 0, "nothing was refused")
            if lost == 0 { for descriptor in descriptors { closeDescriptor(descriptor) } }
        }

        /// As `duplicate`, once there is room.
        private func duplicateSoon(_ descriptor: Int32) -> Int32 {
            for _ in 0..<1_000 {
                let copy = duplicate(descriptor)
                if copy >= 0 { return copy }
                usleep(1_000)
            }
            return -1
        }

        /// Dispatch opens `/proc/TID/stat` for an instant when it counts its threads, and so may take the one that is
        /// left: a descriptor that was lost stays lost.
        private func openOnceThereIsRoom() -> Int32 {
            for _ in 0..<1_000 {
                let descriptor = open("/dev/null", O_RDONLY)
                if descriptor >= 0 { return descriptor }
                usleep(1_000)
            }
            return -1
        }
    #endif
}

/// Takes every descriptor that the process may have, under a limit that is lowered for it.
private final class FullTable {
    private var limit = rlimit()
    private var taken: [Int32] = []

    init(leaving spare: Int = 0) throws {
        #if canImport(Glibc)
            let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        #else
            let resource = RLIMIT_NOFILE
        #endif
        guard getrlimit(resource, &limit) == 0 else { throw TestFailure(description: "no limit (errno \(errno))") }
        var lowered = limit
        lowered.rlim_cur = min(limit.rlim_cur, 512)
        guard setrlimit(resource, &lowered) == 0 else { throw TestFailure(description: "not lowered (errno \(errno))") }
        // Dispatch, which looks into /proc at times, gives back what it held when the table was first full.
        var refusals = 0
        while refusals < 5 {
            let descriptor = open("/dev/null", O_RDONLY)
            if descriptor >= 0 {
                taken.append(descriptor)
                refusals = 0
            } else {
                refusals += 1
                usleep(1_000)
            }
        }
        for _ in 0..<spare { taken.popLast().map(closeDescriptor) }
    }

    func giveBack() {
        for descriptor in taken { closeDescriptor(descriptor) }
        taken = []
        #if canImport(Glibc)
            _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        #else
            _ = setrlimit(RLIMIT_NOFILE, &limit)
        #endif
    }

    deinit { giveBack() }
}
