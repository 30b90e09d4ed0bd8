import Dispatch

#if canImport(Glibc)
    import CReadiness
    import Glibc
#elseif canImport(Musl)
    import CReadiness
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Who is told what comes in at a plain socket, on its loop.
protocol PlainReceiver: AnyObject, Sendable {
    /// The bytes are lent until this returns.
    func received(_ datagram: UnsafeRawBufferPointer, from source: PlainAddress?, at socket: PlainSocket)
    /// The network says that nobody listens where a datagram from this socket went.
    func refused(at socket: PlainSocket)
    /// The system could not receive.
    func receivingFailed(_ error: PlainSocketError)
}

/// A serial queue on which any number of plain sockets are read, with one buffer for all of them.
///
/// `@unchecked Sendable`: the buffer is touched on the queue alone.
final class PlainLoop: @unchecked Sendable {
    /// How many datagrams a socket has read before others have their turn.
    private static let datagramsPerTurn = 64

    let queue: DispatchQueue
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: PlainSocket.largestDatagram, alignment: 16)

    init(label: String) {
        queue = DispatchQueue(label: label)
    }

    deinit { buffer.deallocate() }

    /// Reads a socket from now on, until the watch is ended. The receiver is held for as long.
    func watch(_ socket: PlainSocket, for receiver: any PlainReceiver) throws(PlainSocketError) -> PlainWatch {
        #if os(Linux)
            let readiness = CReadiness_make(socket.descriptor)
            guard readiness >= 0 else { throw PlainSocketError(code: errno) }
        #else
            let readiness = socket.descriptor
        #endif
        let source = DispatchSource.makeReadSource(fileDescriptor: readiness, queue: queue)
        source.setEventHandler { self.read(socket, receiver) }
        source.setCancelHandler {
            // Only now the descriptors may go, the socket's with whoever holds it last.
            if readiness != socket.descriptor { close(readiness) }
            _ = receiver
        }
        source.activate()
        return PlainWatch(source)
    }

    private func read(_ socket: PlainSocket, _ receiver: any PlainReceiver) {
        for _ in 0..<Self.datagramsPerTurn {
            switch socket.takeNext(into: buffer) {
            case .datagram(let count, let source):
                receiver.received(UnsafeRawBufferPointer(rebasing: buffer[..<count]), from: source, at: socket)
            case .nothing: return
            case .refused: receiver.refused(at: socket)
            case .failed(let code): return receiver.receivingFailed(PlainSocketError(code: code))
            }
        }
    }
}

/// A socket that is read.
///
/// `@unchecked Sendable`: sources of Dispatch may be used from any thread, which only their type does not say.
final class PlainWatch: @unchecked Sendable {
    private let source: any DispatchSourceRead

    fileprivate init(_ source: any DispatchSourceRead) {
        self.source = source
    }

    deinit { source.cancel() }

    func end() {
        source.cancel()
    }
}
