import DTLS
import Foundation

/// A plain UDP service that answers each datagram with a text of its own, the port that it came from, and the datagram.
/// It serves until it is ended or released.
final class EchoingService: Sendable {
    let address: DtlsAddress
    private let task: Task<Void, Never>

    init(_ name: String, port: UInt16 = 0) throws {
        let endpoint = try PlainEndpoint(port: port)
        address = endpoint.address
        task = Task {
            while !Task.isCancelled {
                while let (bytes, port) = endpoint.takeNext() {
                    endpoint.send(Self.answer(name, port, String(decoding: bytes, as: UTF8.self)), to: port)
                }
                try? await Task.sleep(for: .milliseconds(2))
            }
            endpoint.end()
        }
    }

    deinit { task.cancel() }

    static func answer(_ name: String, _ port: UInt16, _ text: String) -> String { "\(name) \(port) \(text)" }

    /// Returns when the port is closed.
    func end() async {
        task.cancel()
        await task.value
    }
}
