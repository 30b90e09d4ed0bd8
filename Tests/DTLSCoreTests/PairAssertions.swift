import DTLSTestSupport
import XCTest

@testable import DTLSCore

extension EnginePair {
    /// A pair whose handshake was carried to its end.
    static func connected(
        _ options: PairOptions,
        file: StaticString = #filePath,
        line: UInt = #line
    ) throws -> EnginePair {
        let pair = try EnginePair(options)
        try pair.connect()
        XCTAssertTrue(pair.isOpen, "not open: \(pair.story)", file: file, line: line)
        return pair
    }

    /// The server's side, which must exist by now.
    func serverPeer(file: StaticString = #filePath, line: UInt = #line) throws -> EnginePeer {
        try XCTUnwrap(server, "the gate has let nobody in", file: file, line: line)
    }

    /// What happened, for messages.
    var story: String {
        "client: \(client.eventNames), server: \(server?.eventNames ?? ["none"])"
    }

    /// Lets the time pass after which an alert is believed, without waiting.
    func passGraceOfAlerts() throws {
        let later = ContinuousClock.now + .seconds(5)
        client.handleTimeout(now: later)
        server?.handleTimeout(now: later)
        try pump()
    }

    /// Checks that what either side sends arrives at the other, once and whole.
    func assertEchoes(_ message: String = "", file: StaticString = #filePath, line: UInt = #line) throws {
        let server = try serverPeer(file: file, line: line)
        guard isOpen else { return XCTFail("not open: \(story) \(message)", file: file, line: line) }
        try pump()
        let before = (client.payloads.count, server.payloads.count)
        let ping = Array("ping \(before)".utf8)
        let pong = Array("pong \(before)".utf8)
        try client.send(ping)
        try pump()
        XCTAssertEqual(Array(server.payloads[before.1...]), [ping], message, file: file, line: line)
        try server.send(pong)
        try pump()
        XCTAssertEqual(Array(client.payloads[before.0...]), [pong], message, file: file, line: line)
    }
}

/// Checks that `body` throws a ``DtlsError`` of `code`, and returns it.
@discardableResult
func assertThrows<Result>(
    _ code: DtlsError.Code,
    _ message: String = "",
    file: StaticString = #filePath,
    line: UInt = #line,
    _ body: () throws -> Result
) -> DtlsError? {
    do {
        _ = try body()
        XCTFail("no error was thrown; \(code) was expected. \(message)", file: file, line: line)
    } catch let error as DtlsError {
        XCTAssertEqual(error.code, code, "\(error) \(message)", file: file, line: line)
        return error
    } catch {
        XCTFail("\(error) was thrown; \(code) was expected. \(message)", file: file, line: line)
    }
    return nil
}
