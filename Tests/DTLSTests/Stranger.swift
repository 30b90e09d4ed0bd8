import DTLSCore
import DTLSTestSupport
import XCTest

@testable import DTLS

/// Somebody with a socket who passes the cookie exchange and then says no more: a handshake that stays half open.
struct Stranger {
    let socket: RawSocket
    private var hello = HandmadeHello()

    init(host: String = "127.0.0.1", seed: UInt64 = 1) throws {
        socket = try RawSocket(host: host)
        var generator = SeededGenerator(seed: seed)
        hello.random = (0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) }
        // The extended master secret (RFC 7627), without which the server would refuse.
        hello.extensions = [0, 4, 0, 23, 0, 0]
    }

    /// Sends a hello without a cookie.
    func knock(at server: DtlsAddress) {
        socket.send(hello.datagram, to: server)
    }

    /// Brings the cookie that came for ``knock(at:)``.
    func answer(_ cookie: [UInt8], at server: DtlsAddress) {
        socket.send(hello.answering(cookie).datagram, to: server)
    }

    /// Sends both hellos, and waits for what the server says to the second.
    @discardableResult
    func openHalfway(at server: DtlsAddress) async throws -> [UInt8] {
        knock(at: server)
        answer(try await receive(), at: server)
        return try await receive()
    }

    /// Waits for the next datagram.
    func receive(within seconds: Double = 10) async throws -> [UInt8] {
        var datagram: [UInt8]?
        try await eventually(within: seconds, "a datagram came") {
            datagram = socket.receiveNow()?.bytes
            return datagram != nil
        }
        return datagram ?? []
    }
}
