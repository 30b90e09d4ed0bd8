import DTLS
import ExampleSupport

/// A session between two runs of the program.
struct SessionFile {
    /// Sessions are far smaller, also with a certificate and a long ticket in them.
    private static let maximumSize = 1 << 17

    private let file: PrivateFile

    init(path: String) {
        file = PrivateFile(path: path, role: "session file")
    }

    /// Finds out, before there is anything to keep, whether the session could be kept.
    func check() throws {
        try file.check()
    }

    /// The session in the file. Nil, with a remark, when it has expired; nil without one when there is none yet.
    func load() throws -> DtlsSession? {
        guard let contents = try file.read(upTo: Self.maximumSize), !contents.isEmpty else { return nil }
        guard let session = try? DtlsSession(bytes: DtlsSecretBytes(contents)) else {
            // It would be replaced; a slip of the finger must not cost a key.
            throw ExampleFailure("\(file.path) is there and holds no session")
        }
        guard !session.isExpired else {
            Console.note("dtls-client: \(escapedForTerminal(file.path.utf8)) holds a session that has expired")
            return nil
        }
        return session
    }

    /// Puts a session into the file.
    func store(_ session: DtlsSession?) throws {
        guard let session else {
            Console.note("dtls-client: the server gave no session to keep in \(escapedForTerminal(file.path.utf8))")
            return
        }
        try file.replace(with: session.bytes)
    }
}
