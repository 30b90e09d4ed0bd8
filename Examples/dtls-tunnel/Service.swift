import ExampleSupport

/// Where the plain service is. It may be away, and its name may have no address yet, or another one later.
final class Service: Sendable {
    private struct State {
        var addresses: [PlainAddress] = []
        var preferred = 0
        var isLookingUp = false
        var nextLookUp = MonotonicTime.now
        var failure: String?
    }

    /// How long an answer counts, and how long none.
    private static let secondsBetweenLookUps = (found: 60.0, notFound: 2.0)

    let target: HostPort
    private let isLiteral: Bool
    private let state = Guarded(State())

    init(_ target: HostPort) {
        self.target = target
        isLiteral = AddressLookUp.isLiteral(target.host ?? "")
    }

    /// Where to send to now; nil while nobody knows.
    var address: PlainAddress? {
        let (address, mustLookUp) = state.withLock { state in
            let isDue = !isLiteral && !state.isLookingUp && MonotonicTime.now >= state.nextLookUp
            if isDue { state.isLookingUp = true }
            let address = state.addresses.isEmpty ? nil : state.addresses[state.preferred]
            return (address, isDue)
        }
        if mustLookUp { Task { await lookUp() } }
        return address
    }

    /// Why there is no address.
    var failure: String { state.withLock { $0.failure } ?? "\(target) has no address yet" }

    /// Nobody listens at an address. When there are others, one of them is next: `localhost` may be two.
    func refused(_ address: PlainAddress) {
        state.withLock { state in
            guard state.addresses.count > 1, state.addresses[state.preferred] == address else { return }
            state.preferred = (state.preferred + 1) % state.addresses.count
        }
    }

    /// Asks for the addresses, which are then known to all.
    func lookUp() async {
        do {
            let addresses = try await AddressLookUp.addresses(of: target)
            state.withLock { state in
                // What answered stays preferred.
                let current = state.addresses.isEmpty ? nil : state.addresses[state.preferred]
                state.addresses = addresses
                state.preferred = current.flatMap { addresses.firstIndex(of: $0) } ?? 0
                state.isLookingUp = false
                state.nextLookUp = .now + Self.secondsBetweenLookUps.found
                state.failure = nil
            }
        } catch {
            let reason = (error as? ExampleFailure)?.message ?? "\(error)"
            state.withLock { state in
                state.isLookingUp = false
                state.nextLookUp = .now + Self.secondsBetweenLookUps.notFound
                state.failure = reason
            }
        }
    }
}
