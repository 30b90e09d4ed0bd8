#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Files with certificates and keys.
enum FileContents {
    /// No file of certificates is larger; reading a device or the wrong file must end.
    static let maximumSize = 16 << 20

    /// Reads a file whole.
    ///
    /// - Throws: ``DtlsError/Code-swift.struct/fileUnreadable`` with the `errno`.
    static func read(_ path: String) throws(DtlsError) -> [UInt8] {
        try readSecret(path).withUnsafeBytes { Array($0) }
    }

    /// As ``read(_:)``, for a file that may hold a private key: no copy of it stays behind.
    static func readSecret(_ path: String) throws(DtlsError) -> DtlsSecretBytes {
        guard let file = fopen(path, "rb") else { throw unreadable(path, errno) }
        defer { fclose(file) }
        // Else there would be a copy in the file's own buffer.
        setvbuf(file, nil, _IONBF, 0)
        let contents = SecretWriter()
        var chunk = [UInt8](repeating: 0, count: 16_384)
        defer { chunk.withUnsafeMutableBytes { wipe($0) } }
        while true {
            errno = 0
            let count = fread(&chunk, 1, chunk.count, file)
            if count < chunk.count, ferror(file) != 0 { throw unreadable(path, errno) }
            if count == 0 { return contents.secret }
            chunk.withUnsafeBytes { contents.append(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            if contents.count > maximumSize { throw unreadable(path, EFBIG) }
        }
    }

    private static func unreadable(_ path: String, _ code: Int32) -> DtlsError {
        DtlsError(
            .fileUnreadable,
            phase: .configuration,
            "\(path.sanitized()) cannot be read: \(String(cString: strerror(code)))",
            systemError: code
        )
    }
}
