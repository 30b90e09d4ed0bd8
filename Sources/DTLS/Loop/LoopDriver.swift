/// What loops run on: one thing at a time, in order.
protocol LoopDriver: AnyObject, Sendable {
    /// Calls `block` behind what is there. From any thread.
    func perform(_ block: @escaping @Sendable () -> Void)

    /// Makes what tells of a socket's readiness, and of time.
    func makeEvents(of socket: UDPSocket) -> any SocketEvents
}

/// Tells of a socket's readiness, and of time. Everything here is called by the driver, or in what it performs.
protocol SocketEvents: AnyObject {
    /// Whether to wait for one more datagram costs about as much as to look for it.
    var wakesCheaply: Bool { get }

    /// Begins to wait for datagrams and errors. The observer is retained until it is told of the end.
    func start(_ observer: any SocketObserver)

    /// Waits for datagrams no more.
    func stopReading()

    /// Waits for the socket to take datagrams again, or waits no more.
    func setWaitsForRoom(_ waits: Bool)

    /// Sets the one timer, whatever it was set to before.
    func setTimer(_ delay: Duration)

    /// Ends everything, once.
    func stop()
}

/// Who is told, by a driver.
protocol SocketObserver: AnyObject, Sendable {
    /// The socket has a datagram or an error.
    func socketReadable()

    /// The socket takes datagrams again.
    func socketWritable()

    func timerFired()

    /// The system does not tell of the socket, for this `errno`.
    func eventsFailed(_ error: Int32)

    /// Nothing is told any more, and nothing uses the descriptor: it may be closed.
    func eventsEnded()
}
