import Foundation
import XCTest

/// Finds the peer programs that happen to be installed.
enum PeerPrograms {
    /// The path of a program.
    ///
    /// - Throws: `XCTSkip` when it is not installed, or a failure when the environment says `DTLS_REQUIRE_PEERS=1`.
    static func path(of name: String) throws -> String {
        let folders = environment["PATH"] ?? "/usr/bin"
        return try path(of: name, in: folders.split(separator: ":").map(String.init))
    }

    /// The path of one of Mbed TLS's programs: in the folder that `DTLS_MBEDTLS_BIN` names, or where `.ci/mbedtls` puts
    /// them.
    ///
    /// - Throws: Like ``path(of:)``.
    static func mbedTLSPath(of name: String) throws -> String {
        if let folder = environment["DTLS_MBEDTLS_BIN"] { return try path(of: name, in: [folder]) }
        // As a shell sees it: a variable that is empty counts as one that is not set.
        var cache = environment["XDG_CACHE_HOME"] ?? ""
        if cache.isEmpty { cache = (environment["HOME"] ?? "") + "/.cache" }
        return try path(of: name, in: ["\(cache)/swift-dtls/mbedtls/bin"])
    }

    private static var environment: [String: String] { ProcessInfo.processInfo.environment }

    private static func path(of name: String, in folders: [String]) throws -> String {
        for folder in folders {
            let path = "\(folder)/\(name)"
            if FileManager.default.isExecutableFile(atPath: path) { return path }
        }
        if environment["DTLS_REQUIRE_PEERS"] == "1" {
            throw PeerFailure(description: "\(name) is not installed, but DTLS_REQUIRE_PEERS is 1")
        }
        throw XCTSkip("\(name) is not installed")
    }
}
