import DTLSCore
import FuzzSupport

/// Datagrams into a server's engine, in mid-handshake and established, beside those of a genuine peer.
struct FuzzServerEngine: FuzzTarget {
    private let fuzzing: EngineFuzzing

    init() throws {
        fuzzing = try EngineFuzzing(subject: .server)
    }

    func run(_ input: FuzzInput) throws {
        try fuzzing.run(input)
    }

    func seeds() -> [(name: String, bytes: [UInt8])] {
        fuzzing.seeds()
    }
}

/// What libFuzzer calls first.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ arguments: UnsafeMutableRawPointer?) -> CInt {
    FuzzServerEngine.prepare()
    return 0
}
