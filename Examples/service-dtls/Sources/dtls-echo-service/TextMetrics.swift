import CoreMetrics
import Synchronization

/// Metrics as lines of text, for this example. A real service has a factory of swift-prometheus, swift-otel or another
/// backend in its place.
final class TextMetrics: MetricsFactory {
    /// One metric, of any kind.
    private final class Cell: CounterHandler, RecorderHandler, TimerHandler {
        private let state = Mutex(0.0)

        var value: Double { state.withLock { $0 } }

        func increment(by amount: Int64) { state.withLock { $0 += Double(amount) } }
        func reset() { state.withLock { $0 = 0 } }
        func record(_ value: Int64) { state.withLock { $0 = Double(value) } }
        func record(_ value: Double) { state.withLock { $0 = value } }
        func recordNanoseconds(_ duration: Int64) { record(duration) }
    }

    private let cells = Mutex<[String: Cell]>([:])

    /// A line for each metric that is not zero, in the order of their names.
    var text: String {
        let values = cells.withLock { $0.mapValues(\.value) }
        return values.filter { $0.value != 0 }.sorted { $0.key < $1.key }
            .map { "\($0.key) \($0.value.formatted)" }.joined(separator: "\n")
    }

    private func cell(_ label: String, _ dimensions: [(String, String)]) -> Cell {
        let pairs = dimensions.map { "\($0.0)=\"\($0.1)\"" }.joined(separator: ",")
        let name = pairs.isEmpty ? label : "\(label){\(pairs)}"
        return cells.withLock { cells in
            let cell = cells[name] ?? Cell()
            cells[name] = cell
            return cell
        }
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        cell(label, dimensions)
    }

    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        cell(label, dimensions)
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        cell(label, dimensions)
    }

    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
}

extension Double {
    fileprivate var formatted: String { Int64(exactly: self).map { "\($0)" } ?? "\(self)" }
}
