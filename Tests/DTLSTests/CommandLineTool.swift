import Foundation
import XCTest

/// Programs that make files for tests or look at them.
enum CommandLineTool {
    /// Runs a program in a folder and returns what it wrote to its standard output.
    ///
    /// - Throws: `XCTSkip` when it is not installed, or a failure when the environment says `DTLS_REQUIRE_PEERS=1`; a
    ///   failure when it ends with another status than 0.
    @discardableResult
    static func run(_ name: String, _ arguments: [String], in folder: URL? = nil) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try path(of: name))
        process.arguments = arguments
        process.currentDirectoryURL = folder
        let output = Pipe()
        let errors = folder ?? FileManager.default.temporaryDirectory
        let errorFile = errors.appendingPathComponent("\(UUID()).stderr")
        _ = FileManager.default.createFile(atPath: errorFile.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: errorFile) }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = try FileHandle(forWritingTo: errorFile)
        try process.run()
        let text = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let complaint = (try? String(contentsOf: errorFile, encoding: .utf8)) ?? ""
            throw TestFailure(description: "\(name) \(arguments.joined(separator: " ")): \(complaint)")
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func path(of name: String) throws -> String {
        let environment = ProcessInfo.processInfo.environment
        for folder in (environment["PATH"] ?? "/usr/bin").split(separator: ":") {
            let path = "\(folder)/\(name)"
            if FileManager.default.isExecutableFile(atPath: path) { return path }
        }
        if environment["DTLS_REQUIRE_PEERS"] == "1" {
            throw TestFailure(description: "\(name) is not installed, but DTLS_REQUIRE_PEERS is 1")
        }
        throw XCTSkip("\(name) is not installed")
    }
}

/// A folder of one test, which goes with it.
final class ScratchFolder: Sendable {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appendingPathComponent("swift-dtls-\(UUID())")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appendingPathComponent(name).path }

    func read(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: url.appendingPathComponent(name))) }

    func write(_ bytes: [UInt8], to name: String) throws {
        try Data(bytes).write(to: url.appendingPathComponent(name))
    }
}
