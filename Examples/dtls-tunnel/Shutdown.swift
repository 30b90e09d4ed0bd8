/// The end of a tunnel: at the first signal or, with a drain, when that is over or a second signal has come.
enum Shutdown {
    static func wait(
        for signals: AsyncStream<Int32>,
        drain seconds: Double,
        _ drain: @escaping @Sendable (_ seconds: Double) async -> Void
    ) async {
        var iterator = signals.makeAsyncIterator()
        _ = await iterator.next()
        guard seconds > 0 else { return }
        let drained = Task { await drain(seconds) }
        let impatience = Task {
            for await _ in signals { return drained.cancel() }
        }
        await drained.value
        impatience.cancel()
    }
}
