import DTLS
import ExampleSupport

/// The connections of a server between two processes: sealed in one file, under a key in another.
struct StateFile {
    private let file: PrivateFile
    private let key: DtlsHandOverKey

    /// Reads the key, or makes one when this is the first time.
    init(path: String) throws {
        file = PrivateFile(path: path, role: "state file")
        let keyFile = PrivateFile(path: "\(path).key", role: "key file")
        if let bytes = try keyFile.read(upTo: DtlsHandOverKey.length + 1, isSecret: true) {
            guard bytes.count == DtlsHandOverKey.length else {
                throw ExampleFailure("the key file \(keyFile.path) does not have \(DtlsHandOverKey.length) bytes")
            }
            key = try DtlsHandOverKey(DtlsSecretBytes(bytes))
        } else {
            // It would be removed; a slip of the finger must not cost another program's file.
            guard try !file.exists() else {
                throw ExampleFailure("\(path) is there without its key, \(keyFile.path)")
            }
            key = try DtlsHandOverKey.random()
            try keyFile.create(with: key.bytes)
        }
        try file.check()
    }

    /// What the process before has left, if it has. It is in no file any more: two servers that go on with the same
    /// keys would give them away.
    func take() throws -> DtlsSealedAssociations? {
        try file.take().map { DtlsSealedAssociations(bytes: $0, key: key) }
    }

    /// Puts back what was taken and not imported.
    func putBack(_ associations: DtlsSealedAssociations) throws {
        try file.replace(with: associations.bytes)
    }

    /// Ends every connection of the server that can go on elsewhere, and keeps them in the file.
    ///
    /// - Returns: How many they are.
    func exportAssociations(of server: DtlsServer) throws -> Int {
        let handOver = try server.exportAssociations(under: key)
        if handOver.count > 0 { try file.replace(with: handOver.bytes) }
        return handOver.count
    }
}
