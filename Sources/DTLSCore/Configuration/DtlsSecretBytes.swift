import COpenSSL

/// Bytes that must stay secret: a pre-shared key, a passphrase, a private key's text.
///
/// The bytes live in one place, are wiped (`OPENSSL_cleanse(3)`) when the last copy of the value is released, are
/// compared in constant time, and never show in a description, a mirror, an error or a log.
public struct DtlsSecretBytes: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    private let storage: Storage

    /// Copies `bytes`. What the caller holds of them is the caller's to wipe.
    public init(_ bytes: some Collection<UInt8>) {
        storage = Storage(count: bytes.count) { buffer in
            for (index, byte) in bytes.enumerated() where index < buffer.count { buffer[index] = byte }
        }
    }

    /// Copies the UTF-8 bytes of `text`.
    public init(utf8 text: String) {
        self.init(Array(text.utf8))
    }

    init(count: Int, initializingWith initialize: (UnsafeMutableRawBufferPointer) -> Void) {
        storage = Storage(count: count, initialize)
    }

    /// The number of bytes.
    public var count: Int { storage.bytes.count }

    /// Calls `body` with the bytes, which are valid only until it returns. Copies made of them are the caller's to
    /// wipe.
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(storage.bytes))
    }

    /// Compares in a time that depends on the lengths only.
    public static func == (left: DtlsSecretBytes, right: DtlsSecretBytes) -> Bool {
        guard left.count == right.count else { return false }
        guard left.count > 0 else { return true }
        return CRYPTO_memcmp(left.storage.bytes.baseAddress, right.storage.bytes.baseAddress, left.count) == 0
    }

    /// Hashes the length alone: a hash of the bytes could leak them.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(count)
    }

    /// The length, never the bytes.
    public var description: String { "<\(count) secret bytes>" }

    /// The length, never the bytes.
    public var debugDescription: String { description }

    /// Shows no children, so that `dump(_:)` prints no byte.
    public var customMirror: Mirror { Mirror(self, children: []) }

    private final class Storage: Sendable {
        // Written in init only, before anyone else can see it, and wiped in deinit, when nobody else can.
        nonisolated(unsafe) let bytes: UnsafeMutableRawBufferPointer

        init(count: Int, _ initialize: (UnsafeMutableRawBufferPointer) -> Void) {
            bytes = .allocate(byteCount: count, alignment: 16)
            if count > 0 {
                bytes.initializeMemory(as: UInt8.self, repeating: 0)
                initialize(bytes)
            }
        }

        deinit {
            OPENSSL_cleanse(bytes.baseAddress, bytes.count)
            bytes.deallocate()
        }
    }
}
