#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// What every call into the system's sockets goes through.
enum SystemCall {
    enum Outcome: Sendable, Equatable {
        case value(Int)
        /// The call would have had to wait (`EAGAIN`, `EWOULDBLOCK`).
        case wouldBlock
        /// The call failed with this `errno`.
        case failed(Int32)
    }

    /// Makes a call that answers -1 and sets `errno` when it fails; repeats it when a signal interrupted it.
    ///
    /// `ENOBUFS` counts as a failure, not as `wouldBlock`: the socket stays writable meanwhile (the interface's queue
    /// is full, not the socket's), so someone who waits for a writable event would spin.
    // Never inlined, so that no release of the caller's objects can come between the call and the reading of errno.
    @inline(never)
    static func run<Answer: FixedWidthInteger>(_ call: () -> Answer) -> Outcome {
        while true {
            let answer = call()
            guard answer == -1 else { return .value(Int(answer)) }
            let error = errno
            switch error {
            case EINTR: continue
            case EAGAIN, EWOULDBLOCK: return .wouldBlock
            default: return .failed(error)
            }
        }
    }

    /// As ``run(_:)``, for the calls that never wait and of which only the failure counts: its `errno`, or nil.
    static func error(_ call: () -> Int32) -> Int32? {
        switch run(call) {
        case .value: nil
        case .wouldBlock: EAGAIN
        case .failed(let error): error
        }
    }

    /// The system's text for an `errno`, for example "Address already in use".
    static func description(of error: Int32) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let start = buffer.baseAddress else { return "error \(error)" }
            start.initialize(to: 0)
            let text = text(strerror_r(error, start, buffer.count), buffer: start)
            return text.isEmpty ? "error \(error)" : text
        }
    }

    // strerror_r comes in two flavours, chosen by macros of the C library: POSIX answers a status and fills the buffer,
    // GNU answers the text, which need not be in the buffer. Overloading takes the one that is there.
    private static func text(_ status: Int32, buffer: UnsafePointer<CChar>) -> String { String(cString: buffer) }

    private static func text(_ text: UnsafePointer<CChar>?, buffer: UnsafePointer<CChar>) -> String {
        String(cString: text ?? buffer)
    }

    // MARK: Constants whose imported type depends on the C library

    #if canImport(Glibc)
        static let datagramType = Int32(SOCK_DGRAM.rawValue)
    #else
        static let datagramType = SOCK_DGRAM
    #endif
    static let udp = Int32(IPPROTO_UDP)
    static let ipv4Level = Int32(IPPROTO_IP)
    static let ipv6Level = Int32(IPPROTO_IPV6)
    static let dontWait = Int32(MSG_DONTWAIT)
    static let messageTooLarge = EMSGSIZE
    static let notThere = ENOSYS
    static let truncated = Int32(MSG_TRUNC)

    /// The flags of every send: never wait, never raise SIGPIPE.
    #if canImport(Darwin)
        static let sendFlags = dontWait  // SO_NOSIGPIPE is set on the socket instead
    #else
        static let sendFlags = dontWait | Int32(MSG_NOSIGNAL)
    #endif

    // MARK: Socket options

    /// Sets an option that is an `int`; the `errno`, or nil when it was set.
    static func setOption(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) -> Int32? {
        var value = value
        return error { setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size)) }
    }

    /// Reads an option that is an `int`.
    static func option(_ descriptor: Int32, _ level: Int32, _ name: Int32) -> Outcome {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        let outcome = run { getsockopt(descriptor, level, name, &value, &length) }
        if case .value = outcome { return .value(Int(value)) }
        return outcome
    }
}

/// Owns a descriptor until it is handed on; closes it when that does not happen.
struct OwnedDescriptor: ~Copyable {
    let value: Int32

    init(taking descriptor: Int32) { value = descriptor }

    @discardableResult
    consuming func release() -> Int32 {
        let value = value
        discard self
        return value
    }

    deinit { Self.close(value) }

    /// Closes a descriptor for good.
    ///
    /// Not repeated after EINTR: on Linux the descriptor is gone even then, and may already be somebody else's.
    static func close(_ descriptor: Int32) { _ = closeDescriptor(descriptor) }
}

// At file scope, where `close` still means the system's function.
private func closeDescriptor(_ descriptor: Int32) -> Int32 { close(descriptor) }
