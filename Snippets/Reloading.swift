import DTLS

/// A server whose certificate is renewed, and whose clients can be sent away, while it runs.
struct Gateway {
    let server: DtlsServer

    /// From now on handshakes use the new files. Connections, and handshakes under way, keep what they began with.
    func reload() throws {
        var configuration = DtlsConfiguration()
        configuration.identity = try DtlsIdentity(certificateFile: "server.pem", privateKeyFile: "server.key")
        server.replaceContext(try DtlsServerContext(configuration, preSharedKeys: Self.keys))
    }

    /// Closes every connection of a device, and says how many there were. Take its key out of the store first, or it
    /// comes back.
    func sendAway(_ device: String) -> Int {
        server.closeConnections { $0.preSharedKeyIdentity == Array(device.utf8) }
    }

    /// Keys that depend on the name by which a client calls the server. The look-up may take its time: only its own
    /// handshake waits.
    static let keys = DtlsPreSharedKeyStore(lookUpForServerName: { identity, serverName in
        await Vault.shared.key(of: identity, at: serverName ?? "default.example")
    })
}

/// Stands for a database.
actor Vault {
    static let shared = Vault()
    private var keys: [String: [[UInt8]: DtlsSecretBytes]] = [:]

    func key(of identity: [UInt8], at name: String) -> DtlsSecretBytes? { keys[name]?[identity] }
}
