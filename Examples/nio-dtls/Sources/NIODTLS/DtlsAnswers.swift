public import DTLSCore
public import NIOCore

/// Answers to what an engine asks in the midst of a handshake, which waits meanwhile, within its time.
///
/// Each closure is called on the channel's event loop, must not block, and returns a future of any loop. One that is
/// `async` fits by `eventLoop.makeFutureWithTask { … }`. A future that fails stands for the answer that lets nobody in;
/// of an identity, for the configuration's.
public struct DtlsAnswers: Sendable {
    /// Asked for a pre-shared key, where the context uses them. `nil`: none is known.
    public var preSharedKey:
        (@Sendable (DtlsPreSharedKeyRequest, any EventLoop) -> EventLoopFuture<DtlsPreSharedKeyAnswer>)?

    /// Asked whether the peer's certificates are welcome, where the context asks the application. `nil`: they are not.
    public var acceptsCertificates: (@Sendable (DtlsPresentedCertificates, any EventLoop) -> EventLoopFuture<Bool>)?

    /// Asked for a server's identity for one client, where the context lets the application choose it. `nil`, or a
    /// future of it: the configuration's.
    public var identity: (@Sendable (DtlsClientOffer, any EventLoop) -> EventLoopFuture<DtlsIdentity?>)?

    /// Makes answers that know of nothing. Set what the context asks for.
    public init() {}

    /// Makes a server's answers from the keys of its clients. Of several keys of one identity the last counts.
    public init(preSharedKeys keys: [DtlsPreSharedKey]) {
        let table = Dictionary(keys.map { ($0.identity, $0.key) }) { _, last in last }
        preSharedKey = { request, loop in
            guard case .identity(let identity, _) = request, let key = table[identity] else {
                return loop.makeSucceededFuture(.unknown)
            }
            return loop.makeSucceededFuture(.key(key))
        }
    }
}
