import DTLS
import Foundation

// Clients prove to have a pre-shared key, which may come out of a database: the closure is async.
let keys = DtlsPreSharedKeyStore { identity in
    identity == Array("sensor-7".utf8) ? DtlsSecretBytes(utf8: "a better key than this") : nil
}

do {
    let context = try DtlsServerContext(preSharedKeys: keys)
    let server = try await DtlsServer.bind(port: 5684, context: context)
    print("listening on \(server.localAddress)")
    fflush(nil)  // A file or a pipe would have to wait for it.

    // Connections come here once their handshake is finished and every check has passed, each to a task of its own.
    await server.serve { connection in
        for try await datagram in connection {
            try await connection.send(datagram)
        }
    }
} catch {
    FileHandle.standardError.write(Data("\(error)\n".utf8))
    exit(1)
}
