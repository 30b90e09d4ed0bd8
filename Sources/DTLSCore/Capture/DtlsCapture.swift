import DTLSPrimitives

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Writes every datagram of a context's connections as pcapng, with the secrets that decrypt them, so that Wireshark
/// and tshark open the file and show the plaintext without any other setting. (tshark 4.0 cannot decrypt
/// ChaCha20-Poly1305 in DTLS 1.2; take an AES-GCM suite for it.)
///
/// ```swift
/// configuration.capture = try DtlsCapture(file: "session.pcapng")
/// ```
///
/// Whoever has the file can read what it holds. For finding faults, never for everyday use: writing takes time on the
/// I/O path. One capture may serve several contexts; it may be called from any thread. What cannot be written (a disk
/// that is full) is lost without a word.
public final class DtlsCapture: Sendable {
    private let sink: @Sendable ([UInt8]) -> Void
    // Keeps the blocks of several threads apart.
    private let order = Lock(())

    /// Writes to a file, which is replaced if it is there, and made readable for its owner only. Each block is written
    /// at once; the file is closed when nobody holds the capture any more.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/fileUnreadable`` when it cannot be opened for writing, or is a symbolic
    ///   link.
    public init(file path: String) throws(DtlsError) {
        let file = try AppendedFile(path, replacing: true)
        sink = { file.append($0) }
        sink(Pcapng.header())
    }

    /// Hands the file's bytes to `body`, piece by piece and in order, one call at a time.
    ///
    /// - Parameter body: The first call, before this returns, gets the header. All others come on whatever thread has
    ///   sent or received the datagram, while its association waits: it must be quick, and must not call into this
    ///   capture, a connection or a server.
    public init(_ body: @escaping @Sendable ([UInt8]) -> Void) {
        sink = body
        body(Pcapng.header())
    }

    /// Records a datagram, with the wall clock's time. Clients and servers of the `DTLS` module do it themselves, and
    /// so do engines for what passes through them.
    ///
    /// - Parameters:
    ///   - datagram: The UDP payload.
    ///   - source: Who sent it.
    ///   - destination: Who was meant.
    public func record(
        _ datagram: UnsafeRawBufferPointer,
        from source: DtlsEndpointName,
        to destination: DtlsEndpointName
    ) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let microseconds = UInt64(now.tv_sec) &* 1_000_000 &+ UInt64(now.tv_nsec) / 1_000
        let block = Pcapng.packet(datagram, from: source, to: destination, microseconds: microseconds)
        order.withLock { _ in sink(block) }
    }

    func recordSecret(_ line: String) {
        let block = Pcapng.secrets(Array((line + "\n").utf8))
        order.withLock { _ in sink(block) }
    }
}

/// An IP address and a port, as a capture shows them; see ``DtlsEngine/flow``.
public struct DtlsEndpointName: Sendable, Hashable {
    /// The address in network order: 4 bytes for IPv4, 16 for IPv6.
    public let address: [UInt8]

    /// The UDP port.
    public let port: UInt16

    /// Makes a name. An address of another length than 4 or 16 bytes stands for `0.0.0.0`.
    public init(address: [UInt8], port: UInt16) {
        self.address = address.count == 4 || address.count == 16 ? address : [0, 0, 0, 0]
        self.port = port
    }

    /// What an engine shows whose transport has no addresses: 10.0.0.1 for the client, 10.0.0.2 and port 4433 for the
    /// server.
    static func placeholder(_ role: DtlsRole) -> DtlsEndpointName {
        role == .client
            ? DtlsEndpointName(address: [10, 0, 0, 1], port: 50_000)
            : DtlsEndpointName(address: [10, 0, 0, 2], port: 4_433)
    }
}
