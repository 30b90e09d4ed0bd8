import DTLS
import ExampleSupport

/// Looks up one host for all who ask. Those who ask while it is being looked up get the same answer, so that however
/// many there are, one thread waits for the name server.
final class SharedLookUp: Sendable {
    private let target: HostPort
    private let running = Guarded<Task<[DtlsAddress], any Error>?>(nil)

    init(_ target: HostPort) {
        self.target = target
    }

    /// The addresses, in the system's order of preference; never empty.
    func addresses() async throws -> [DtlsAddress] {
        let task = running.withLock { running in
            if let running { return running }
            let task = Task { try await self.lookUp() }
            running = task
            return task
        }
        return try await task.value
    }

    private func lookUp() async throws -> [DtlsAddress] {
        defer { running.withLock { $0 = nil } }
        let addresses = try await AddressLookUp.addresses(of: target)
        return try addresses.map { try DtlsAddress(ipAddress: $0.host, port: target.port) }
    }
}
