import Dispatch

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// SIGINT and SIGTERM as a sequence of their numbers. From the call on they no longer end the process.
public func terminationSignals() -> AsyncStream<Int32> {
    let (signals, continuation) = AsyncStream.makeStream(of: Int32.self)
    let sources = SignalSources([SIGINT, SIGTERM]) { continuation.yield($0) }
    continuation.onTermination = { _ in sources.cancel() }
    return signals
}

/// Unchecked because sources of Dispatch may be used from any thread, which only their type does not say.
private struct SignalSources: @unchecked Sendable {
    private let sources: [any DispatchSourceSignal]

    init(_ numbers: [Int32], handler: @escaping @Sendable (Int32) -> Void) {
        sources = numbers.map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { handler(number) }
            source.activate()
            return source
        }
    }

    func cancel() {
        for source in sources {
            source.cancel()
        }
    }
}
