/// Tries several addresses of one name until one succeeds (in the manner of RFC 8305): each a little after the one
/// before, or as soon as an earlier one has failed.
struct AddressRace {
    /// What RFC 8305 §8 calls the connection attempt delay.
    static let delay = Duration.milliseconds(300)

    private let addresses: [DtlsAddress]
    private let delay: Duration

    init(_ addresses: [DtlsAddress], delay: Duration = Self.delay) {
        self.addresses = addresses
        self.delay = delay
    }

    private enum Event {
        case ended(Int, Result<DtlsConnection, DtlsError>)
        /// The address of this index has waited long enough for those before it.
        case due(Int)
    }

    /// Returns what the first success returned, or throws what the first address threw; when the task was cancelled,
    /// that.
    func run(
        _ connect: @escaping @Sendable (DtlsAddress) async throws(DtlsError) -> DtlsConnection
    ) async throws(DtlsError) -> DtlsConnection {
        guard let first = addresses.first else {
            throw DtlsError(.nameResolutionFailed, phase: .resolution, "there is no address to connect to")
        }
        if addresses.count == 1 { return try await connect(first) }
        let result = await withTaskGroup(
            of: Event.self,
            returning: Result<DtlsConnection, DtlsError>.self
        ) { group in
            var running = 0
            var next = 0
            func tryNext() {
                // A wait that was cancelled has ended too.
                guard next < addresses.count, !Task.isCancelled || next == 0 else { return }
                let index = next
                let address = addresses[index]
                let delay = self.delay
                next += 1
                running += 1
                group.addTask {
                    do throws(DtlsError) {
                        return .ended(index, .success(try await connect(address)))
                    } catch {
                        return .ended(index, .failure(error))
                    }
                }
                guard next < addresses.count else { return }
                group.addTask {
                    try? await Task.sleep(for: delay)
                    return .due(index + 1)
                }
            }
            tryNext()
            var failures: [Int: DtlsError] = [:]
            while running > 0, let event = await group.next() {
                switch event {
                case .ended(_, .success(let connection)):
                    group.cancelAll()
                    return .success(connection)
                case .ended(let index, .failure(let error)):
                    failures[index] = error
                    running -= 1
                    tryNext()
                case .due(let index):
                    // Unless it was tried before, when another one had failed.
                    if index == next { tryNext() }
                }
            }
            // What still waits has nothing to wait for.
            group.cancelAll()
            // Whatever has failed before, it is not why nothing came of the others.
            if Task.isCancelled { return .failure(Association.cancelledInHandshake) }
            return .failure(failures[0] ?? ClientEndpoint.closed)
        }
        return try result.get()
    }
}
