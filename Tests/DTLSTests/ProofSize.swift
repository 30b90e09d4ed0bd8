import Foundation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// How much of a proof runs: a part of it with every `swift test`, the whole with `DTLS_PROOF=full`.
enum ProofSize {
    static let isFull = ProcessInfo.processInfo.environment["DTLS_PROOF"] == "full"

    static func of(_ full: Int, otherwise part: Int) -> Int { isFull ? full : part }

    /// No full proof takes so long; a fault might.
    static var deadline: Double { isFull ? 1_200 : 120 }

    /// Whether a sanitizer is in the process, which makes everything several times slower.
    static let isSanitized = ["__asan_init", "__tsan_init"].contains { (name: String) in dlsym(nil, name) != nil }
}
