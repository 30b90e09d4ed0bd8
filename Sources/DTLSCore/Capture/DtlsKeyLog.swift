#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Where the secrets of connections are written, in NSS's format (`CLIENT_RANDOM …`), which Wireshark reads.
///
/// Whoever has them can read every connection that they belong to. For finding faults, never for everyday use.
public struct DtlsKeyLog: Sendable {
    let write: @Sendable (String) -> Void

    /// Calls `body` with each line, without a newline: one for each handshake of DTLS 1.2.
    ///
    /// - Parameter body: Called on the thread that did the handshake and while its association waits, of several
    ///   associations at the same time: it must be quick and must not call into a connection.
    public init(_ body: @escaping @Sendable (String) -> Void) {
        write = body
    }

    /// Appends to a file, which is made if it is not there, and made readable for its owner only. What cannot be
    /// written is lost without a word.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/fileUnreadable`` when it cannot be opened for writing, or is a symbolic
    ///   link.
    public init(file path: String) throws(DtlsError) {
        let file = try AppendedFile(path, replacing: false)
        write = { line in file.append(Array((line + "\n").utf8)) }
    }

    /// Appends to the file that the environment variable `SSLKEYLOGFILE` names; `nil` when it is not set, or empty.
    ///
    /// - Throws: As ``init(file:)`` does.
    public static func fromEnvironment() throws(DtlsError) -> DtlsKeyLog? {
        guard let path = getenv("SSLKEYLOGFILE").map({ String(cString: $0) }), !path.isEmpty else { return nil }
        return try DtlsKeyLog(file: path)
    }
}

/// A file that several threads append to.
final class AppendedFile: Sendable {
    // A FILE of the C library, which locks itself in each call (flockfile(3)).
    private nonisolated(unsafe) let file: UnsafeMutablePointer<FILE>

    init(_ path: String, replacing: Bool) throws(DtlsError) {
        let flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (replacing ? O_TRUNC : O_APPEND)
        let descriptor = open(path, flags, mode_t(0o600))
        guard descriptor >= 0, let file = fdopen(descriptor, replacing ? "w" : "a") else {
            let code = errno
            if descriptor >= 0 { close(descriptor) }
            throw DtlsError(
                .fileUnreadable,
                phase: .configuration,
                "\(path.sanitized()) cannot be written: \(String(cString: strerror(code)))",
                systemError: code
            )
        }
        // Also where it was there before. Not a file (a pipe, say) is the caller's own affair.
        _ = fchmod(descriptor, mode_t(0o600))
        self.file = file
    }

    deinit { fclose(file) }

    /// Writes at once, so that nothing is missing when the process is killed.
    func append(_ bytes: [UInt8]) {
        _ = fwrite(bytes, 1, bytes.count, file)
        fflush(file)
    }
}
