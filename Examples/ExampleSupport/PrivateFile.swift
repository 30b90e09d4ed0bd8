public import DTLS

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A file between two runs of a program that nobody but its owner can read, and that is written whole or not at all.
public struct PrivateFile: Sendable {
    /// Where it is.
    public let path: String
    /// What it is, as the subject of an error: `session file`.
    private let role: String

    /// Makes the name of a file, which need not be there.
    public init(path: String, role: String) {
        self.path = path
        self.role = role
    }

    // MARK: Reading

    /// What is in the file; nil when there is none.
    ///
    /// - Parameters:
    ///   - maximumSize: How many bytes to read at the most.
    ///   - isSecret: Whether a file is refused that its group or others may read, write or run.
    public func read(upTo maximumSize: Int = .max, isSecret: Bool = false) throws -> [UInt8]? {
        guard try exists() else { return nil }
        return try read(path, upTo: maximumSize, isSecret: isSecret)
    }

    /// What is in the file, which is gone then, also after a power failure: of several programs that call this, one
    /// gets it. Nil when there is none.
    public func take() throws -> [UInt8]? {
        guard try exists() else { return nil }
        let (name, descriptor) = try makeTemporary()
        close(descriptor)
        guard rename(path, name) == 0 else {
            let isMissing = errno == ENOENT
            let error = failure("taken")
            unlink(name)
            if isMissing { return nil }
            throw error
        }
        let contents = Result { try read(name, upTo: .max, isSecret: false) }
        guard unlink(name) == 0 else { throw failure("removed") }
        try synchronizeFolder()
        return try contents.get()
    }

    /// Whether there is a file. Throws where it is something else, a device or a link, which would be replaced.
    public func exists() throws -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return false }
            throw failure("read")
        }
        guard isRegular(status) else { throw notRegular }
        return true
    }

    private func read(_ name: String, upTo maximumSize: Int, isSecret: Bool) throws -> [UInt8] {
        let descriptor = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else { throw failure("read") }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("read") }
        guard isRegular(status) else { throw notRegular }
        if isSecret, status.st_mode & (S_IRWXG | S_IRWXO) != 0 {
            throw ExampleFailure("the \(role) \(path) is open to others: chmod 600 it, if nobody has read it yet")
        }
        var contents = [UInt8](repeating: 0, count: min(Int(status.st_size), maximumSize))
        var count = 0
        while count < contents.count {
            let read = contents[count...].withUnsafeMutableBytes { systemRead(descriptor, $0.baseAddress, $0.count) }
            if read > 0 {
                count += read
            } else if read == 0 {
                break
            } else if errno != EINTR {
                throw failure("read")
            }
        }
        contents.removeLast(contents.count - count)
        return contents
    }

    // MARK: Writing

    /// Finds out, before there is anything to keep, whether the file could be written.
    public func check() throws {
        let (name, descriptor) = try makeTemporary()
        close(descriptor)
        unlink(name)
    }

    /// Writes to another file, which then takes the place of this one. Nobody but the owner can read either.
    public func replace(with contents: [UInt8]) throws {
        try contents.withUnsafeBytes { try put($0) { rename($0, $1) } }
    }

    /// As ``replace(with:)-([UInt8])``.
    public func replace(with contents: DtlsSecretBytes) throws {
        try contents.withUnsafeBytes { try put($0) { rename($0, $1) } }
    }

    /// Writes the file unless it is there meanwhile, which is a failure.
    public func create(with contents: DtlsSecretBytes) throws {
        try contents.withUnsafeBytes { contents in
            try put(contents) { name, path in
                guard link(name, path) == 0 else { return -1 }
                return unlink(name)
            }
        }
    }

    private func put(_ contents: UnsafeRawBufferPointer, by move: (_ name: String, _ path: String) -> Int32) throws {
        let (name, descriptor) = try makeTemporary()
        do {
            defer { close(descriptor) }
            var written = 0
            while written < contents.count {
                let rest = UnsafeRawBufferPointer(rebasing: contents[written...])
                let count = systemWrite(descriptor, rest.baseAddress, rest.count)
                if count >= 0 {
                    written += count
                } else if errno != EINTR {
                    throw failure("written")
                }
            }
            guard fsync(descriptor) == 0 else { throw failure("written") }
            guard move(name, path) == 0 else { throw failure("put in its place") }
        } catch {
            unlink(name)
            throw error
        }
    }

    /// Makes an empty file of another name in the same folder, with mode 0600.
    private func makeTemporary() throws -> (name: String, descriptor: Int32) {
        var name = Array("\(path).XXXXXX".utf8CString)
        let descriptor = mkstemp(&name)
        guard descriptor >= 0 else { throw failure("written") }
        return (String(decoding: name.dropLast().map { UInt8(truncatingIfNeeded: $0) }, as: UTF8.self), descriptor)
    }

    /// A file that was removed could be there again after a power failure, before this.
    private func synchronizeFolder() throws {
        let folder = path.lastIndex(of: "/").map { path[...$0] } ?? "."
        let descriptor = open(String(folder), O_RDONLY | O_CLOEXEC | O_DIRECTORY)
        guard descriptor >= 0 else { throw failure("removed") }
        defer { close(descriptor) }
        // EINVAL: this file system does so by itself, or never.
        guard fsync(descriptor) == 0 || errno == EINVAL else { throw failure("removed") }
    }

    private func isRegular(_ status: stat) -> Bool { status.st_mode & S_IFMT == S_IFREG }

    private var notRegular: ExampleFailure { ExampleFailure("the \(role) \(path) is no regular file") }

    private func failure(_ verb: String) -> ExampleFailure {
        ExampleFailure("the \(role) \(path) cannot be \(verb): \(String(cString: strerror(errno)))")
    }
}
