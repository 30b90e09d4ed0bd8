import Logging

// Connections on the socket's loop: by a handler, or by tasks at little more than its price.

extension DtlsServer {
    /// Hands each connection to `body`, instead of the sequence, where its handshake is finished.
    ///
    /// ```swift
    /// server.handleConnections { connection in
    ///     connection.handleDatagrams { connection, datagram in _ = try? connection.trySend(datagram) }
    /// }
    /// ```
    ///
    /// Those that wait to be taken come first; from then on whoever iterates waits for the server's end. A second call
    /// takes the first one's place.
    ///
    /// - Parameter body: Called on the loop of the connection's socket, on several loops at once, without a lock held:
    ///   it must not block. It may call everything that does not wait. A connection that it does not keep or give a
    ///   handler (``DtlsConnection/handleDatagrams(with:closed:)``) is closed when it returns.
    public func handleConnections(with body: @escaping @Sendable (_ connection: DtlsConnection) -> Void) {
        endpoints[0].accepted.setHandler(body)
    }

    /// Serves each connection by a task of its own, on the socket's loop, until the server is closed, has failed
    /// (``failure``) or the calling task is cancelled, which cancels them all. Returns when the last of them has ended.
    ///
    /// ```swift
    /// await server.serve { connection in
    ///     for try await datagram in connection { try await connection.send(datagram) }
    /// }
    /// ```
    ///
    /// The tasks prefer the executor of their connection's socket (``DtlsConnection/executor``): a task goes on as soon
    /// as its datagram is opened, in the same thread, and what it sends leaves together with what others send. So the
    /// body must not compute for long or block, as all connections of the socket wait for it; `await` something
    /// elsewhere for that. (A task without an actor and without a preference runs in the global pool, where each
    /// datagram costs a change of threads.)
    ///
    /// A server whose serving task was cancelled is open still: clients go on to finish handshakes, and wait for
    /// somebody to take them. ``close()`` or ``drain(for:)`` ends it.
    ///
    /// When the body returns or throws, its connection is released, and closes unless it is held elsewhere. Errors are
    /// logged, at `debug`, and end nothing else.
    ///
    /// - Parameter body: Called for each connection whose handshake is finished, in a child task of the caller's.
    public func serve(_ body: @escaping @Sendable (_ connection: DtlsConnection) async throws -> Void) async {
        let logger = endpoints[0].logger
        // Whoever takes connections had better be there, too, where they come from.
        await withTaskExecutorPreference(endpoints[0].loop.executor) {
            await withDiscardingTaskGroup { group in
                for await connection in self {
                    group.addTask(executorPreference: connection.executor) {
                        do {
                            try await body(connection)
                        } catch {
                            logger?.debug(
                                "a connection's task has failed",
                                metadata: ["peer": "\(connection.peerAddress)", "error": "\(error)"]
                            )
                        }
                    }
                }
            }
        }
    }
}

extension DtlsConnection {
    /// Runs tasks on the loop of the connection's socket, where its datagrams are opened.
    ///
    /// ```swift
    /// Task(executorPreference: connection.executor) {
    ///     for try await datagram in connection { try await connection.send(datagram) }
    /// }
    /// ```
    ///
    /// Cheaper than the global pool for tasks that wait for datagrams, answer them at once, and do not compute for
    /// long; see ``DtlsServer/serve(_:)``. A task that runs there must never block. A server's runs on a thread of its
    /// own on Linux, and else, as a client's does, on a Dispatch queue.
    public var executor: any TaskExecutor { association.owner.loop.executor }
}
