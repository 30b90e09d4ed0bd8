import DTLSCore

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The keys of SRTP in a new file that only its owner can read, by the names and in the order of RFC 5764 §4.2.
struct SRTPKeyFile {
    let path: String

    /// Finds out, before there is anything to write, whether something is there already.
    func check() throws(PeerError) {
        guard access(path, F_OK) != 0 else { throw PeerError("\(path) is there already, and would be overwritten") }
    }

    func write(_ keys: DtlsSRTPKeys, of role: DtlsRole) throws(PeerError) {
        let isClient = role == .client
        let (clientKey, serverKey) =
            isClient ? (keys.sendingKey, keys.receivingKey) : (keys.receivingKey, keys.sendingKey)
        let (clientSalt, serverSalt) =
            isClient ? (keys.sendingSalt, keys.receivingSalt) : (keys.receivingSalt, keys.sendingSalt)
        let text = [
            "profile \(keys.profile)",
            "client_write_SRTP_master_key \(hexadecimal(clientKey))",
            "server_write_SRTP_master_key \(hexadecimal(serverKey))",
            "client_write_SRTP_master_salt \(hexadecimal(clientSalt))",
            "server_write_SRTP_master_salt \(hexadecimal(serverSalt))",
        ].map { $0 + "\n" }.joined()
        // Not one that is there, whose mode and owner are another's choice.
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        guard systemWrite(descriptor, bytes) == bytes.count else { throw failure }
    }

    private var failure: PeerError { PeerError("\(path) cannot be written: \(String(cString: strerror(errno)))") }
}

/// The system's call, which a method of the same name hides.
private func systemWrite(_ descriptor: Int32, _ bytes: [UInt8]) -> Int { write(descriptor, bytes, bytes.count) }

/// Secret bytes as lower-case hexadecimal digits.
func hexadecimal(_ secret: DtlsSecretBytes) -> String {
    secret.withUnsafeBytes { bytes in
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
