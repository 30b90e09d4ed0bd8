import DTLSCore
import DTLSPrimitives
import Dispatch

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Turns a host, name or literal, into the addresses that a socket can reach.
enum NameResolution {
    enum Answer: Sendable {
        case addresses([DtlsAddress])
        /// The code of `getaddrinfo`, and `errno` where that code is `EAI_SYSTEM`.
        case failed(code: Int32, systemError: Int32?)
        case cancelled
    }

    /// Looks up a name; blocks for as long as that takes. Replaced in tests.
    typealias LookUp = @Sendable (_ host: String, _ port: UInt16) -> Answer

    /// The addresses of `host`, without duplicates, in the system's order of preference; never empty.
    ///
    /// A literal is answered at once. A name is looked up on another thread; cancelling the task ends the wait for it.
    ///
    /// - Throws: `.nameResolutionFailed` when there is no such name, or no address that the socket reaches;
    ///   `.invalidConfiguration` for a literal with an unknown zone; `.cancelled`.
    static func resolve(
        host: String,
        port: UInt16,
        reach: UDPSocket.Reach,
        lookUp: @escaping LookUp = systemLookUp
    ) async throws(DtlsError) -> [DtlsAddress] {
        guard isPlausible(host) else {
            throw failure("'\(host.sanitized())' is not a host name", hint: "give a name or an IP address")
        }
        let addresses: [DtlsAddress]
        if let literal = try DtlsAddress.parse(host, port: port) {
            addresses = [literal]
        } else {
            addresses = try await lookUpElsewhere(host, port, lookUp)
        }

        var seen: Set<DtlsAddress> = []
        let reachable = addresses.filter { reach.includes($0) && seen.insert($0).inserted }
        guard reachable.isEmpty else { return reachable }
        let kind = reach == .ipv4 ? "IPv4" : "IPv6"
        let hint = "the socket is bound to an \(kind) address; one that is bound to :: reaches IPv4 and IPv6"
        throw failure(
            "'\(host.sanitized())' has no address that the socket can reach",
            hint: addresses.isEmpty ? nil : hint
        )
    }

    /// `getaddrinfo`, which blocks until every name server has answered or timed out.
    static let systemLookUp: LookUp = { host, port in
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = SystemCall.datagramType
        hints.ai_protocol = SystemCall.udp
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &list)
        let systemError = errno
        guard code == 0 else { return .failed(code: code, systemError: code == EAI_SYSTEM ? systemError : nil) }
        defer { freeaddrinfo(list) }

        var addresses: [DtlsAddress] = []
        var next = list
        while let entry = next?.pointee {
            let bytes = UnsafeRawBufferPointer(start: entry.ai_addr, count: Int(entry.ai_addrlen))
            if let address = DtlsAddress(systemAddress: bytes) { addresses.append(address.with(port: port)) }
            next = entry.ai_next
        }
        return .addresses(addresses)
    }

    /// What getaddrinfo would cut at a NUL, or that no name can be.
    private static func isPlausible(_ host: String) -> Bool {
        (1...255).contains(host.utf8.count) && !host.utf8.contains(0)
    }

    private static func lookUpElsewhere(
        _ host: String,
        _ port: UInt16,
        _ lookUp: @escaping LookUp
    ) async throws(DtlsError) -> [DtlsAddress] {
        let pending = PendingAnswer()
        let answer = await withTaskCancellationHandler {
            // It cannot be interrupted; a cancelled one ends unheard, or does not begin.
            LookUpQueues.perform { if pending.isAwaited { pending.give(lookUp(host, port)) } }
            return await pending.wait()
        } onCancel: {
            pending.give(.cancelled)
        }

        let name = "'\(host.sanitized())'"
        switch answer {
        case .addresses(let addresses):
            return addresses
        case .cancelled:
            throw DtlsError(.cancelled, phase: .resolution, "the task was cancelled while \(name) was looked up")
        case .failed(let code, let systemError):
            let reason = systemError.map { SystemCall.description(of: $0) } ?? String(cString: gai_strerror(code))
            let hint = code == EAI_AGAIN ? "no name server answered; try again later" : "check the spelling of the name"
            throw failure("\(name) cannot be resolved: \(reason)", hint: hint, systemError: systemError)
        }
    }

    private static func failure(_ message: String, hint: String?, systemError: Int32? = nil) -> DtlsError {
        DtlsError(.nameResolutionFailed, phase: .resolution, message, hint: hint, systemError: systemError)
    }
}

/// Where look-ups block, perhaps for many seconds each: no more at once than a program has threads to spare.
///
/// Serial queues, whose threads are their own. A block that waits on a global queue takes one of the few threads that
/// run Swift's tasks.
private enum LookUpQueues {
    private static let queues = (0..<16).map { DispatchQueue(label: "swift-dtls.names.\($0)") }
    /// How many look-ups each has.
    private static let loads = Lock([Int](repeating: 0, count: queues.count))

    static func perform(_ lookUp: @escaping @Sendable () -> Void) {
        let index = loads.withLock { loads in
            let index = loads.indices.min { loads[$0] < loads[$1] } ?? 0
            loads[index] += 1
            return index
        }
        queues[index].async {
            lookUp()
            loads.withLock { $0[index] -= 1 }
        }
    }
}

/// An answer that one task waits for. The first one given counts; those after it are ignored.
private final class PendingAnswer: Sendable {
    private enum State {
        case nobodyWaits
        case waiting(CheckedContinuation<NameResolution.Answer, Never>)
        case given(NameResolution.Answer)
    }

    private let state = Lock(State.nobodyWaits)

    /// Whether none was given yet.
    var isAwaited: Bool { state.withLock { if case .given = $0 { false } else { true } } }

    func give(_ answer: NameResolution.Answer) {
        let continuation = state.withLock { state -> CheckedContinuation<NameResolution.Answer, Never>? in
            switch state {
            case .given: return nil
            case .nobodyWaits:
                state = .given(answer)
                return nil
            case .waiting(let continuation):
                state = .given(answer)
                return continuation
            }
        }
        continuation?.resume(returning: answer)
    }

    func wait() async -> NameResolution.Answer {
        await withCheckedContinuation { continuation in
            let answer = state.withLock { state -> NameResolution.Answer? in
                if case .given(let answer) = state { return answer }
                state = .waiting(continuation)
                return nil
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }
}
