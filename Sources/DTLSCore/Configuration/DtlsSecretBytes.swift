import COpenSSL

/// Bytes that must stay secret: a pre-shared key, a passphrase, a private key's text.
///
/// The bytes live in one place, are wiped (`OPENSSL_cleanse(3)`) when the last copy of the value is released, are
/// compared in constant time, and never show in a description, a mirror, an error or a log.
public struct DtlsSecretBytes: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    // Never changed once it is made; see there.
    private nonisolated(unsafe) let storage: Storage

    /// Copies `bytes`, any number of them. What the caller holds of them is the caller's to wipe.
    public init(_ bytes: some Collection<UInt8>) {
        storage = Storage.make(count: bytes.count) { buffer in
            for (index, byte) in bytes.enumerated() where index < buffer.count { buffer[index] = byte }
        }
    }

    /// Copies the UTF-8 bytes of `text`, which cannot be wiped itself.
    public init(utf8 text: String) {
        self.init(text.utf8)
    }

    init(count: Int, initializingWith initialize: (UnsafeMutableRawBufferPointer) -> Void) {
        storage = Storage.make(count: count, initialize)
    }

    /// The number of bytes.
    public var count: Int { storage.header }

    /// Calls `body` with the bytes, which are valid only until it returns. Copies made of them are the caller's to
    /// wipe. Throws what `body` throws.
    public func withUnsafeBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try storage.withBytes { bytes throws(Failure) in try body(UnsafeRawBufferPointer(bytes)) }
    }

    /// Compares in a time that depends on the lengths only.
    public static func == (left: DtlsSecretBytes, right: DtlsSecretBytes) -> Bool {
        guard left.count == right.count else { return false }
        guard left.count > 0 else { return true }
        return left.withUnsafeBytes { left in
            right.withUnsafeBytes { right in CRYPTO_memcmp(left.baseAddress, right.baseAddress, left.count) == 0 }
        }
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

    /// The bytes behind the object's header, in one piece of memory.
    ///
    /// Why it is safe to share: they are written in ``make(count:_:)`` only, before anyone else can see them, and wiped
    /// in deinit, when nobody else can.
    private final class Storage: ManagedBuffer<Int, UInt8> {
        static func make(count: Int, _ initialize: (UnsafeMutableRawBufferPointer) -> Void) -> Storage {
            // `create` makes an object of the class that it is called on.
            let storage = unsafeDowncast(create(minimumCapacity: count) { _ in count }, to: Storage.self)
            storage.withBytes { bytes in
                guard !bytes.isEmpty else { return }
                bytes.initializeMemory(as: UInt8.self, repeating: 0)
                initialize(bytes)
            }
            return storage
        }

        func withBytes<Result, Failure: Error>(
            _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            try withUnsafeMutablePointers { count, bytes throws(Failure) in
                try body(UnsafeMutableRawBufferPointer(start: bytes, count: count.pointee))
            }
        }

        deinit {
            withBytes { bytes in OPENSSL_cleanse(bytes.baseAddress, bytes.count) }
        }
    }
}
