import DTLSCore

@testable import DTLS

extension UDPSocket {
    /// What came of reading one datagram.
    enum Received: Equatable {
        case datagram(count: Int, from: DtlsAddress, to: DtlsAddress? = nil)
        case wouldBlock
        /// A pending error, or a datagram longer than the buffer.
        case retry
        case failed(Int32)
    }

    /// Takes one datagram out of the kernel; for sockets that nobody sends to in batches.
    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Received {
        let batch = DatagramBatch(
            capacity: 1,
            localPort: localAddress.port,
            bufferSize: buffer.count,
            readsMany: offload.receivesMany
        )
        switch receive(into: batch) {
        case .wouldBlock: return .wouldBlock
        case .retry: return .retry
        case .failed(let error): return .failed(error)
        case .datagrams:
            guard let datagram = batch.next() else { return .retry }
            buffer.copyMemory(from: datagram)
            return .datagram(count: datagram.count, from: batch.source, to: batch.local)
        }
    }
}
