import CFuzzing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Something that takes inputs, whatever they hold, and traps when what must hold does not.
public protocol FuzzTarget {
    /// Makes what all inputs share: contexts, keys, certificates.
    init() throws

    /// Inputs to begin with, each with the name of its file.
    func seeds() throws -> [(name: String, bytes: [UInt8])]

    /// Runs one input.
    func run(_ input: FuzzInput) throws
}

extension FuzzTarget {
    /// Makes the target before libFuzzer's first input, as `LLVMFuzzerInitialize` is there to do. With the arguments
    /// `--seeds DIRECTORY` it writes the seeds there instead and ends the process.
    public static func prepare() {
        do {
            fuzzing_seed_randomness(0)
            let target = try Self()
            if CommandLine.arguments.dropFirst().first == "--seeds" {
                guard let directory = CommandLine.arguments.dropFirst(2).first else { exit(2) }
                for (name, bytes) in try target.seeds() { writeFile("\(directory)/seed-\(name)", bytes) }
                exit(0)
            }
            runner = { bytes in
                // Each input begins from the same state, or it could not be repeated.
                fuzzing_seed_randomness(1)
                do { try target.run(FuzzInput(bytes)) } catch { violated("an unexpected error: \(error)") }
            }
        } catch {
            violated("the target could not be made: \(error)")
        }
    }
}

// Set once, before the first input, and called on libFuzzer's one thread.
nonisolated(unsafe) private var runner: ([UInt8]) -> Void = { _ in }

/// What libFuzzer calls with each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func runOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    runner(Array(UnsafeBufferPointer(start: data, count: size)))
    return 0
}

/// Traps when `condition` does not hold.
public func require(_ condition: Bool, _ message: @autoclosure () -> String) {
    if !condition { violated(message()) }
}

/// Traps, which makes libFuzzer keep the input.
public func violated(_ message: String) -> Never {
    let line = Array("violated: \(message)\n".utf8)
    _ = write(2, line, line.count)
    fatalError(message)
}

private func writeFile(_ path: String, _ bytes: [UInt8]) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    guard file >= 0, write(file, bytes, bytes.count) == bytes.count else { violated("\(path) cannot be written") }
    close(file)
}
