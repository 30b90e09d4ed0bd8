import DTLSCore

// Datagrams where they come in, for those who count microseconds.

extension DtlsConnection {
    /// Hands each datagram that comes to `received`, where it comes in and without a copy.
    ///
    /// ```swift
    /// for await connection in server {
    ///     connection.handleDatagrams { connection, datagram in
    ///         _ = try? connection.trySend(datagram)
    ///     }
    /// }
    /// ```
    ///
    /// It is the cheapest way to receive: no task wakes up, nothing is allocated, and what the handler sends leaves
    /// together with what others send at the same time. The price is that it runs on the socket's loop: all
    /// connections of the server or client wait for it. It must not block; hand over what takes longer than some
    /// microseconds, copied, to a task.
    ///
    /// When the system refuses what the handler sends, that throws nothing, as it does elsewhere: the handler has
    /// returned long before. It is counted (``/DTLSCore/DtlsStatistics/sendFailures`` of the server or client), and a
    /// path that carries less lowers ``maximumPayloadSize``.
    ///
    /// What came before and nobody has read comes first. From then on the sequence gets nothing, and whoever iterates
    /// waits for the end. The connection lives on, and stays open, without anybody holding it, until it ends.
    ///
    /// A second call takes the first one's place, on the loop: the former handler may still be called for what comes in
    /// before. The former `closed` is not called.
    ///
    /// - Parameters:
    ///   - received: Called on the socket's loop for one datagram after the other, without a lock held. The bytes are
    ///     lent until it returns. It may call everything of the connection, its client and its server that does not
    ///     wait.
    ///   - closed: Called once on the socket's loop, behind the last datagram, when the connection has ended, as soon
    ///     as possible if it has already. Default: nobody is told.
    public func handleDatagrams(
        with received: @escaping @Sendable (_ connection: DtlsConnection, _ datagram: RawSpan) -> Void,
        closed: (@Sendable (_ connection: DtlsConnection, _ reason: DtlsCloseReason) -> Void)? = nil
    ) {
        association.setReceiver(Association.Receiver(self, received: received, closed: closed))
    }

    /// Sends a datagram if the socket takes it at once. Never waits.
    ///
    /// - Parameter payload: 1 to ``maximumPayloadSize`` bytes.
    /// - Returns: `false` when the socket's buffer is full; nothing was sent then.
    /// - Throws: What ``send(_:)-([UInt8])`` throws, without `cancelled`.
    public func trySend(_ payload: RawSpan) throws(DtlsError) -> Bool {
        try payload.withUnsafeBytes { bytes throws(DtlsError) in try association.trySend(bytes) }
    }
}
