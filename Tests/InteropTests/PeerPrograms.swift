import Foundation
import XCTest

/// Finds the peer programs that happen to be installed.
enum PeerPrograms {
    /// The path of a program.
    ///
    /// - Throws: `XCTSkip` when it is not installed, or a failure when the environment says `DTLS_REQUIRE_PEERS=1`.
    static func path(of name: String) throws -> String {
        let environment = ProcessInfo.processInfo.environment
        for folder in (environment["PATH"] ?? "/usr/bin").split(separator: ":") {
            let path = "\(folder)/\(name)"
            if FileManager.default.isExecutableFile(atPath: path) { return path }
        }
        if environment["DTLS_REQUIRE_PEERS"] == "1" {
            throw PeerFailure(description: "\(name) is not installed, but DTLS_REQUIRE_PEERS is 1")
        }
        throw XCTSkip("\(name) is not installed")
    }
}
