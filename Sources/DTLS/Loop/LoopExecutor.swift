import DTLSPrimitives
import DequeModule
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Runs tasks where a loop runs: those that a wake-up of the loop has made ready at its end, without another dispatch.
///
/// A client's loops have the same one, one after the other.
///
/// `@unchecked Sendable`: `ready`, `isContinuing`, `isHandingOver`, `jobsLeft`, `sendsLeft` and `loop` are touched
/// in what `driver` performs alone; the rest is constant or locks itself.
final class LoopExecutor: TaskExecutor, @unchecked Sendable {
    /// How many jobs one wake-up runs, so that tasks that make each other ready leave the socket its turn.
    private static let jobsPerWakeUp = 1_024

    /// How many datagrams tasks send in one wake-up before they wait for the next: `send` does not suspend by itself
    /// while there is room.
    private static let sendsPerWakeUp = 256

    let driver: any LoopDriver

    /// The loop whose wake-ups end with what is ready, while there is one.
    var loop: SocketLoop?
    /// The thread on which a wake-up is under way; 0 at other times. What other threads read here is never their own.
    private let awake = Atomic<UInt>(0)

    // Unchecked, as it is looked at twice for each datagram that comes alone: jobs run between two accesses, and not in
    // one.
    @exclusivity(unchecked) private var ready = Deque<UnownedJob>()
    private var isContinuing = false
    /// Whether a receiver of datagrams is being called.
    private(set) var isHandingOver = false
    private var jobsLeft = LoopExecutor.jobsPerWakeUp
    private var sendsLeft = LoopExecutor.sendsPerWakeUp
    /// What has become ready elsewhere.
    private let arrived = Lock(Arrived())

    private struct Arrived {
        var jobs = Deque<UnownedJob>()
        /// Whether a block is on its way that takes them.
        var isTold = false
    }

    init(driver: any LoopDriver) {
        self.driver = driver
    }

    /// For a server: on a thread of its own, where there is such.
    static func server() -> LoopExecutor {
        #if os(Linux)
            if let driver = ThreadDriver(name: "swift-dtls") { return LoopExecutor(driver: driver) }
        #endif
        return LoopExecutor(driver: DispatchDriver(label: "swift-dtls.server"))
    }

    /// For a client, of which a program may have many.
    static func client() -> LoopExecutor {
        LoopExecutor(driver: DispatchDriver(clientLabel: "swift-dtls.client"))
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if isAwake { return ready.append(job) }
        let mustTell = arrived.withLock { arrived in
            arrived.jobs.append(job)
            defer { arrived.isTold = true }
            return !arrived.isTold
        }
        // It keeps this object for as long as somebody waits.
        if mustTell { driver.perform { self.wakeUp { self.takeArrived() } } }
    }

    private func takeArrived() {
        let jobs = arrived.withLock { arrived in
            arrived.isTold = false
            defer { arrived.jobs = [] }
            return arrived.jobs
        }
        if ready.isEmpty { ready = jobs } else { ready.append(contentsOf: jobs) }
    }

    /// Whether the caller is there, in the middle of a wake-up.
    var isAwake: Bool { awake.load(ordering: .relaxed) == UDPSocket.thisThread }

    private func wakeUp(_ body: () -> Void) {
        if let loop { loop.wakeUp(body) } else { run(body) }
    }

    /// Calls `body`, and then runs what it has made ready. In what the driver performs.
    func run(_ body: () -> Void) {
        awake.store(UDPSocket.thisThread, ordering: .relaxed)
        if let running = Self.running { pthread_setspecific(running, Unmanaged.passUnretained(self).toOpaque()) }
        jobsLeft = Self.jobsPerWakeUp
        sendsLeft = Self.sendsPerWakeUp
        body()
        runReady()
        if let running = Self.running { pthread_setspecific(running, nil) }
        awake.store(0, ordering: .relaxed)
    }

    /// Calls a receiver of datagrams. In a wake-up.
    func handOver(_ body: () -> Void) {
        let was = isHandingOver
        isHandingOver = true
        body()
        isHandingOver = was
    }

    /// Which of them runs on a thread; nil where the system has no room for one more such key.
    private static let running: pthread_key_t? = {
        var key = pthread_key_t()
        return pthread_key_create(&key, nil) == 0 ? key : nil
    }()

    /// Counts a datagram that is to be sent, on whatever socket. Returns whether a task is to let others go on before,
    /// as it runs on a loop where as much has been sent as may be in one wake-up. From any thread.
    static func countSend() -> Bool {
        guard let executor = ofThisThread else { return false }
        executor.sendsLeft -= 1
        return executor.sendsLeft <= 0
    }

    /// Whether it is, without counting.
    static var hasSentEnough: Bool { ofThisThread.map { $0.sendsLeft <= 0 } ?? false }

    private static var ofThisThread: LoopExecutor? {
        guard let running, let pointer = pthread_getspecific(running) else { return nil }
        // Put there by `run`, which this call is a part of: it is alive.
        return Unmanaged<LoopExecutor>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// Runs what is ready. In a wake-up.
    func runReady() {
        while jobsLeft > 0, sendsLeft > 0, let job = ready.popFirst() {
            job.runSynchronously(on: asUnownedTaskExecutor())
            jobsLeft -= 1
        }
        guard !ready.isEmpty, !isContinuing else { return }
        isContinuing = true
        driver.perform {
            self.isContinuing = false
            self.wakeUp {}
        }
    }
}
