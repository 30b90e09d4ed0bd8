/// Tries several addresses of one name, each a little after the one before, until one succeeds (in the manner of RFC 8305).
struct AddressRace {
    /// What RFC 8305 §8 calls the connection attempt delay.
    static let delay = Duration.milliseconds(300)

    private let addresses: [DtlsAddress]

    init(_ addresses: [DtlsAddress]) {
        self.addresses = addresses
    }

    /// Returns what the first success returned, or throws what the first address threw.
    func run(
        _ connect: @escaping @Sendable (DtlsAddress) async throws(DtlsError) -> DtlsConnection
    ) async throws(DtlsError) -> DtlsConnection {
        guard let first = addresses.first else {
            throw DtlsError(.nameResolutionFailed, phase: .resolution, "there is no address to connect to")
        }
        if addresses.count == 1 { return try await connect(first) }
        let result = await withTaskGroup(
            of: (Int, Result<DtlsConnection, DtlsError>).self,
            returning: Result<DtlsConnection, DtlsError>.self
        ) { group in
            for (index, address) in addresses.enumerated() {
                group.addTask {
                    do throws(DtlsError) {
                        if index > 0 {
                            // Cancelled when another address was faster.
                            try? await Task.sleep(for: Self.delay * index)
                            if Task.isCancelled {
                                throw DtlsError(.cancelled, phase: .handshake, "the task was cancelled")
                            }
                        }
                        return (index, .success(try await connect(address)))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            var failures: [Int: DtlsError] = [:]
            while let (index, result) = await group.next() {
                switch result {
                case .success:
                    group.cancelAll()
                    return result
                case .failure(let error):
                    failures[index] = error
                }
            }
            return .failure(failures[0] ?? ClientEndpoint.closed)
        }
        return try result.get()
    }
}
