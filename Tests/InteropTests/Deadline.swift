import DTLS
import Foundation
import Synchronization

/// Runs a test's body, which gets a room of its own for peer programs and files, and ends all of them afterwards.
///
/// When the body has not returned after `seconds`, its task is cancelled and the test fails with what the peers have
/// written, even if the body never notices its cancellation. No test needs the time: the deadline is there so that a
/// fault cannot hang the run.
func withDeadline(seconds: Double = 30, _ body: @escaping @Sendable (Peers) async throws -> Void) async throws {
    let peers = Peers()
    let race = Race()
    let work = Task {
        do {
            try await body(peers)
            race.finish(.success(()))
        } catch let error as DtlsError {
            race.finish(.failure(PeerFailure(description: "\(error)\n\(peers.description)")))
        } catch {
            race.finish(.failure(error))
        }
    }
    let alarm = Task {
        try await Task.sleep(for: .seconds(seconds))
        race.finish(.failure(PeerFailure(description: "not done after \(seconds) seconds\n\(peers.description)")))
        work.cancel()
    }
    defer {
        alarm.cancel()
        peers.end()
    }
    try await race.outcome()
}

/// The first outcome of several that may come.
private final class Race: Sendable {
    private struct State {
        var outcome: Result<Void, any Error>?
        var waiter: CheckedContinuation<Void, any Error>?
    }

    private let state = Mutex(State())

    func finish(_ outcome: Result<Void, any Error>) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, any Error>? in
            if state.outcome != nil { return nil }
            state.outcome = outcome
            return state.waiter.take()
        }
        waiter?.resume(with: outcome)
    }

    func outcome() async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let outcome = state.withLock { state -> Result<Void, any Error>? in
                if state.outcome == nil { state.waiter = continuation }
                return state.outcome
            }
            if let outcome { continuation.resume(with: outcome) }
        }
    }
}
