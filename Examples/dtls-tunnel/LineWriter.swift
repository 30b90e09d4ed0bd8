import Dispatch
import ExampleSupport

/// Lines on their way to standard output and standard error: who has one to write does not wait for who reads them.
///
/// When too many wait, those that come are left out until the others are written, and counted.
final class LineWriter: Sendable {
    enum Stream: Sendable {
        case output
        case errors
    }

    private struct State {
        var waiting = 0
        var leftOut = 0
    }

    private static let mostWaiting = 1_000

    private let queue = DispatchQueue(label: "dtls-tunnel.lines")
    private let state = Guarded(State())

    func write(_ line: String, to stream: Stream) {
        state.withLock { state in
            guard state.waiting < Self.mostWaiting, state.leftOut == 0 else {
                state.leftOut += 1
                return
            }
            state.waiting += 1
            // Within the lock, which keeps the order.
            queue.async { self.put(line, to: stream) }
        }
    }

    private func put(_ line: String, to stream: Stream) {
        switch stream {
        case .output: Console.print(line)
        case .errors: Console.note(line)
        }
        let leftOut = state.withLock { state in
            state.waiting -= 1
            guard state.waiting == 0 else { return 0 }
            defer { state.leftOut = 0 }
            return state.leftOut
        }
        if leftOut > 0 { Console.print("… \(leftOut) lines left out") }
    }

    /// Waits until everything is written, or somebody does not read it for so long.
    func finish(within seconds: Double) {
        let done = DispatchSemaphore(value: 0)
        queue.async { done.signal() }
        _ = done.wait(timeout: .now() + seconds)
    }
}
