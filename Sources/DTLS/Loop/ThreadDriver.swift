import DTLSPrimitives

#if os(Linux)
    import CPosixUDP

    #if canImport(Glibc)
        import Glibc
    #elseif canImport(Musl)
        import Musl
    #endif

    /// Runs loops on a thread of its own, which waits in epoll: for servers.
    ///
    /// A queue of Dispatch has another thread wait for it. That costs two changes of threads and five system calls for
    /// a datagram that comes alone, more than to open and answer it.
    final class ThreadDriver: LoopDriver {
        private let core: LoopThread

        /// `nil` when the system has no descriptor or thread left.
        init?(name: String) {
            guard let core = LoopThread(name: name) else { return nil }
            self.core = core
        }

        deinit {
            // Whoever has events of it has it, so that there are none left.
            core.stop()
        }

        func perform(_ block: @escaping @Sendable () -> Void) { core.perform(block) }

        func makeEvents(of socket: UDPSocket) -> any SocketEvents { EpollEvents(core, socket.descriptor) }
    }

    /// The thread, its epoll descriptor, and what it is to do.
    ///
    /// `@unchecked Sendable`: `sources` is touched on the thread alone; the rest is constant or locks itself.
    private final class LoopThread: @unchecked Sendable {
        private let epoll: OwnedDescriptor
        /// What wakes the thread.
        private let bell: OwnedDescriptor
        private let agenda = Lock(Agenda())
        /// One, for a server. Unchecked, as it is looked at a few times for each datagram: of the thread alone, and
        /// nobody is called while it is.
        @exclusivity(unchecked) private var sources: [EpollEvents] = []

        private struct Agenda {
            var blocks: [@Sendable () -> Void] = []
            /// Whether it waits, or is about to, and has to be woken.
            var isParked = false
            var isStopped = false

            mutating func takeBlocks() -> [@Sendable () -> Void] {
                // Nearly always, and nothing to be released then.
                if blocks.isEmpty { return [] }
                defer { blocks = [] }
                return blocks
            }
        }

        private static let eventsPerWait = 64

        init?(name: String) {
            let epoll = OwnedDescriptor(taking: CPosixUDP_makeEpoll())
            let bell = OwnedDescriptor(taking: CPosixUDP_makeBell())
            guard epoll.value >= 0, bell.value >= 0,
                CPosixUDP_watch(epoll.value, bell.value, 1, 0, 0) == 0
            else { return nil }
            self.epoll = epoll
            self.bell = bell
            guard start(name) else { return nil }
        }

        private func start(_ name: String) -> Bool {
            // Signals are for the program's own threads.
            var all = sigset_t()
            var former = sigset_t()
            sigfillset(&all)
            pthread_sigmask(SIG_BLOCK, &all, &former)
            defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
            // An integer in glibc, a pointer in musl.
            #if canImport(Glibc)
                var thread = pthread_t()
            #else
                var thread: pthread_t?
            #endif
            // The thread takes the reference over, and keeps it until it ends.
            let reference = Unmanaged.passRetained(Launch(self, name))
            let error = pthread_create(
                &thread,
                nil,
                { launch in
                    guard let launch else { return nil }
                    // What was passed below, once.
                    let start = Unmanaged<Launch>.fromOpaque(launch).takeRetainedValue()
                    CPosixUDP_nameThread(start.name)
                    start.thread.run()
                    return nil
                },
                reference.toOpaque()
            )
            guard error == 0 else {
                reference.release()
                return false
            }
            pthread_detach(thread)
            return true
        }

        private final class Launch: Sendable {
            let thread: LoopThread
            let name: String

            init(_ thread: LoopThread, _ name: String) {
                self.thread = thread
                // The system's limit.
                self.name = String(name.prefix(15))
            }
        }

        // MARK: From any thread

        func perform(_ block: @escaping @Sendable () -> Void) {
            let isParked = agenda.withLock { agenda in
                agenda.blocks.append(block)
                defer { agenda.isParked = false }
                return agenda.isParked
            }
            if isParked { CPosixUDP_ring(bell.value) }
        }

        /// Ends the thread when everything is done that it was given.
        func stop() {
            agenda.withLock { $0.isStopped = true }
            // Wakes it.
            perform {}
        }

        // MARK: On the thread

        private func run() {
            withUnsafeTemporaryAllocation(of: CPosixUDP_Event.self, capacity: Self.eventsPerWait) { events in
                while let (timeout, parkedAt) = park() {
                    let count = CPosixUDP_wait(epoll.value, events.baseAddress, Int32(events.count), timeout)
                    // First, as they may have been there before the datagrams were.
                    for block in unpark() { block() }
                    // So many of them the system has written.
                    for index in 0..<max(0, Int(count)) { handle(events[index]) }
                    // Where something has come, the clock is looked at when the thread parks again, not here too.
                    fireTimers(now: count > 0 ? parkedAt : .now)
                }
            }
        }

        private func unpark() -> [@Sendable () -> Void] {
            agenda.withLock { agenda in
                agenda.isParked = false
                return agenda.takeBlocks()
            }
        }

        /// How long to wait for events, in milliseconds, and the time where there are timers; nil when all is over.
        private func park() -> (timeout: Int32, now: Moment)? {
            let first = firstDeadline
            let now = first == nil ? Moment(nanoseconds: .min) : .now
            return agenda.withLock { agenda in
                if !agenda.blocks.isEmpty { return (0, now) }
                if agenda.isStopped, sources.isEmpty { return nil }
                agenda.isParked = true
                guard let first else { return (-1, now) }
                return (Int32(clamping: first.milliseconds(after: now)), now)
            }
        }

        private func handle(_ event: CPosixUDP_Event) {
            guard event.descriptor != bell.value else { return CPosixUDP_silence(bell.value) }
            let source = sources.first { $0.descriptor == event.descriptor }
            source?.handle(isReadable: event.isReadable != 0, isWritable: event.isWritable != 0)
        }

        private func fireTimers(now: @autoclosure () -> Moment) {
            guard firstDeadline != nil else { return }
            let now = now()
            for source in sources { source.fireTimer(now: now) }
        }

        /// When a timer fires next.
        private var firstDeadline: Moment? {
            var first: Moment?
            for source in sources {
                guard let deadline = source.deadline else { continue }
                first = first.map { min($0, deadline) } ?? deadline
            }
            return first
        }

        func add(_ source: EpollEvents) { sources.append(source) }

        func remove(_ source: EpollEvents) { sources.removeAll { $0 === source } }

        /// Tells the system what to wait for; errors are told in any case. Returns its error, or 0.
        func watch(_ descriptor: Int32, reads: Bool, writes: Bool, isKnown: Bool) -> Int32 {
            let answer = CPosixUDP_watch(epoll.value, descriptor, reads ? 1 : 0, writes ? 1 : 0, isKnown ? 1 : 0)
            return answer == 0 ? 0 : errno
        }

        func forget(_ descriptor: Int32) { CPosixUDP_forget(epoll.value, descriptor) }
    }

    /// A socket in a thread's epoll. For the thread alone.
    private final class EpollEvents: SocketEvents {
        let descriptor: Int32
        let wakesCheaply = true
        private(set) var deadline: Moment?

        private let thread: LoopThread
        private var observer: (any SocketObserver)?
        private var isReading = false
        private var waitsForRoom = false
        private var isWatched = false
        private var isStopped = false

        init(_ thread: LoopThread, _ descriptor: Int32) {
            self.thread = thread
            self.descriptor = descriptor
        }

        func start(_ observer: any SocketObserver) {
            guard !isStopped else { return }
            self.observer = observer
            thread.add(self)
            isReading = true
            watch()
        }

        func stopReading() {
            isReading = false
            watch()
        }

        func setWaitsForRoom(_ waits: Bool) {
            guard waits != waitsForRoom, observer != nil else { return }
            waitsForRoom = waits
            watch()
        }

        private func watch() {
            guard !isStopped, observer != nil else { return }
            // Errors would be told for ever to one who does not read them.
            guard isReading || waitsForRoom else { return forget() }
            let error = thread.watch(descriptor, reads: isReading, writes: waitsForRoom, isKnown: isWatched)
            if error == 0 { isWatched = true } else { observer?.eventsFailed(error) }
        }

        private func forget() {
            if isWatched { thread.forget(descriptor) }
            isWatched = false
        }

        func setTimer(_ delay: Duration) {
            guard !isStopped else { return }
            deadline = .now + delay
        }

        func stop() {
            guard !isStopped else { return }
            isStopped = true
            deadline = nil
            forget()
            thread.remove(self)
            observer?.eventsEnded()
            observer = nil
        }

        func handle(isReadable: Bool, isWritable: Bool) {
            if isReadable { observer?.socketReadable() }
            if isWritable { observer?.socketWritable() }
        }

        func fireTimer(now: Moment) {
            guard let deadline, deadline <= now else { return }
            self.deadline = nil
            observer?.timerFired()
        }
    }
#endif
