/// How much of what a peer sent waits to be read. What comes beyond is dropped and counted as
/// ``/DTLSCore/DtlsDropReason/receiveQueueFull``, as UDP would.
///
/// Clients and servers check it when they are made, and throw
/// ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration``.
public struct DtlsQueueLimits: Sendable, Hashable {
    /// How many payloads: 1 or more. Default: 1,024.
    public var datagrams: Int
    /// How many bytes of payload: 1 or more. Default: 1,048,576 (1 MiB).
    public var bytes: Int

    /// Makes limits; every parameter has the default that its property names.
    public init(datagrams: Int = 1_024, bytes: Int = 1 << 20) {
        self.datagrams = datagrams
        self.bytes = bytes
    }

    /// - Parameter name: What the caller calls them.
    func validate(as name: String = "DtlsQueueLimits") throws(DtlsError) {
        for (property, count) in [("datagrams", datagrams), ("bytes", bytes)] where count < 1 {
            throw DtlsError.outOfRange("\(name).\(property)", count, use: "1 or more")
        }
    }
}
