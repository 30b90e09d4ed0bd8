import DTLSPrimitives
import Dispatch

/// Runs loops on a serial queue: for clients, of which a program may have many, and where there is no epoll.
final class DispatchDriver: LoopDriver {
    private let queue: DispatchQueue
    private let lane: ClientLanes.Lane?

    /// For a loop that may have a thread of its own whenever it is busy.
    init(label: String) {
        queue = DispatchQueue(label: label)
        lane = nil
    }

    /// For a client's.
    init(clientLabel label: String) {
        let lane = ClientLanes.Lane()
        queue = DispatchQueue(label: label, target: lane.queue)
        self.lane = lane
    }

    func perform(_ block: @escaping @Sendable () -> Void) {
        queue.async { block() }
    }

    func makeEvents(of socket: UDPSocket) -> any SocketEvents { DispatchEvents(socket, queue) }
}

/// A socket's Dispatch sources. For their queue alone.
private final class DispatchEvents: SocketEvents {
    let wakesCheaply = false
    private let socket: UDPSocket
    private let queue: DispatchQueue
    private var observer: (any SocketObserver)?
    private var reader: (any DispatchSourceRead)?
    private var writer: (any DispatchSourceWrite)?
    private var timer: (any DispatchSourceTimer)?
    /// What the timer is to be set to once it is there.
    private var firstDelay: Duration?
    private var liveSources = 0
    private var isStopped = false

    init(_ socket: UDPSocket, _ queue: DispatchQueue) {
        self.socket = socket
        self.queue = queue
    }

    func start(_ observer: any SocketObserver) {
        guard !isStopped else { return }
        self.observer = observer
        let reader = DispatchSource.makeReadSource(fileDescriptor: socket.readiness, queue: queue)
        reader.setEventHandler { observer.socketReadable() }
        self.reader = reader
        keep(reader)
        let timer = DispatchSource.makeTimerSource(queue: queue)
        timer.setEventHandler { observer.timerFired() }
        self.timer = timer
        keep(timer)
        if let firstDelay { setTimer(firstDelay) }
    }

    /// Activates a source and counts it until its cancel handler has run: only then may the descriptor be closed. With
    /// the handlers goes the observer.
    private func keep(_ source: any DispatchSourceProtocol) {
        liveSources += 1
        // On this queue, like everything that touches this object.
        nonisolated(unsafe) let events = self
        source.setCancelHandler { events.sourceEnded() }
        source.activate()
    }

    func stopReading() {
        reader?.cancel()
        reader = nil
    }

    func setWaitsForRoom(_ waits: Bool) {
        guard waits, !isStopped else {
            writer?.cancel()
            writer = nil
            return
        }
        guard writer == nil, let observer else { return }
        let writer = DispatchSource.makeWriteSource(fileDescriptor: socket.descriptor, queue: queue)
        writer.setEventHandler { observer.socketWritable() }
        self.writer = writer
        keep(writer)
    }

    func setTimer(_ delay: Duration) {
        guard let timer else {
            firstDelay = delay
            return
        }
        timer.schedule(deadline: .now() + delay.dispatchInterval, leeway: .milliseconds(1))
    }

    func stop() {
        guard !isStopped else { return }
        isStopped = true
        stopReading()
        setWaitsForRoom(false)
        timer?.cancel()
        timer = nil
        if liveSources == 0 { end() }
    }

    private func sourceEnded() {
        liveSources -= 1
        if isStopped, liveSources == 0 { end() }
    }

    private func end() {
        observer?.eventsEnded()
        observer = nil
    }
}

extension Duration {
    /// For Dispatch, rounded up, so that a timer does not fire before its deadline.
    fileprivate var dispatchInterval: DispatchTimeInterval {
        let nanoseconds = nanoseconds
        return nanoseconds == .max ? .never : .nanoseconds(Int(clamping: nanoseconds + 1))
    }
}
