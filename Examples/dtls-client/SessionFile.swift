import DTLS
import ExampleSupport

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A session between two runs of the program.
struct SessionFile {
    /// Sessions are far smaller, also with a certificate and a long ticket in them.
    private static let maximumSize = 1 << 17

    let path: String

    /// Finds out, before there is anything to keep, whether the session could be kept.
    func check() throws {
        var temporary = Array("\(path).XXXXXX".utf8CString)
        let descriptor = mkstemp(&temporary)
        guard descriptor >= 0 else { throw failure("written") }
        close(descriptor)
        unlink(temporary)
    }

    /// The session in the file. Nil, with a remark, when it has expired; nil without one when there is none yet.
    func load() throws -> DtlsSession? {
        guard let contents = try read(), contents.count > 0 else { return nil }
        guard let session = try? DtlsSession(bytes: contents) else {
            // It would be replaced; a slip of the finger must not cost a key.
            throw ExampleFailure("\(path) is there and holds no session")
        }
        guard !session.isExpired else {
            remark("holds a session that has expired")
            return nil
        }
        return session
    }

    /// Puts a session into the file, whole or not at all: it is written to another file, which then takes the place of
    /// this one. Nobody but the owner can read either.
    func store(_ session: DtlsSession?) throws {
        guard let session else {
            Console.note("dtls-client: the server gave no session to keep in \(escapedForTerminal(path.utf8))")
            return
        }
        var temporary = Array("\(path).XXXXXX".utf8CString)
        // Creates it with mode 0600.
        let descriptor = mkstemp(&temporary)
        guard descriptor >= 0 else { throw failure("written") }
        do {
            try write(session.bytes, to: descriptor)
            guard rename(temporary, path) == 0 else { throw failure("replaced") }
        } catch {
            unlink(temporary)
            throw error
        }
    }

    private func read() throws -> DtlsSecretBytes? {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return nil }
            throw failure("read")
        }
        // Whatever it is, a device or a link, the new session would take its place.
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw ExampleFailure("the session file \(path) is no regular file")
        }
        guard let file = fopen(path, "rb") else { throw failure("read") }
        defer { fclose(file) }
        var contents = [UInt8](repeating: 0, count: Self.maximumSize)
        let count = fread(&contents, 1, contents.count, file)
        guard ferror(file) == 0 else { throw failure("read") }
        return DtlsSecretBytes(contents[..<count])
    }

    /// Closes the descriptor, too.
    private func write(_ contents: DtlsSecretBytes, to descriptor: Int32) throws {
        guard let file = fdopen(descriptor, "wb") else {
            defer { close(descriptor) }
            throw failure("written")
        }
        defer { fclose(file) }
        let count = contents.withUnsafeBytes { fwrite($0.baseAddress, 1, $0.count, file) }
        guard count == contents.count, fflush(file) == 0, fsync(descriptor) == 0 else { throw failure("written") }
    }

    private func remark(_ text: String) {
        Console.note("dtls-client: \(escapedForTerminal(path.utf8)) \(text)")
    }

    private func failure(_ verb: String) -> ExampleFailure {
        ExampleFailure("the session file \(path) cannot be \(verb): \(String(cString: strerror(errno)))")
    }
}
