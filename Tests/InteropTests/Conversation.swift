import DTLS
import XCTest

/// A connection together with its one reader.
struct Conversation {
    let connection: DtlsConnection
    private var datagrams: DtlsConnection.AsyncIterator

    init(_ connection: DtlsConnection) {
        self.connection = connection
        datagrams = connection.makeAsyncIterator()
    }

    /// The next datagram, or `nil` when the association was closed properly.
    mutating func receive() async throws -> [UInt8]? {
        try await datagrams.next()
    }

    /// The next datagram as text.
    mutating func receiveText() async throws -> String? {
        try await receive().map { String(decoding: $0, as: UTF8.self) }
    }

    /// Lets the peer send what it reads from its input, and checks that it prints what it gets.
    mutating func exchangeText(
        with peer: PeerProcess,
        file: StaticString = #filePath,
        line: UInt = #line
    ) async throws {
        try peer.write("from the peer\n")
        let text = try await receiveText()
        XCTAssertEqual(text, "from the peer\n", file: file, line: line)
        try await connection.send("from the library\n")
        try await peer.wait(for: "from the library")
        XCTAssertEqual(connection.state, .open, file: file, line: line)
    }

    /// Checks that a peer that echoes gives back small and large datagrams, in as many pieces as it likes.
    mutating func expectEchoes(file: StaticString = #filePath, line: UInt = #line) async throws {
        for size in [1, 100, connection.maximumPayloadSize] {
            let payload = (0..<size).map { UInt8(truncatingIfNeeded: UInt8(ascii: "a") + UInt8($0 % 26)) }
            try await connection.send(payload)
            var echo: [UInt8] = []
            while echo.count < size, let piece = try await receive() { echo += piece }
            XCTAssertEqual(echo, payload, "\(size) bytes", file: file, line: line)
        }
    }

    /// Checks that the association ends as a close by the peer does.
    mutating func expectCloseByPeer(file: StaticString = #filePath, line: UInt = #line) async throws {
        let rest = try await receive()
        XCTAssertNil(rest, file: file, line: line)
        let reason = await connection.waitUntilClosed()
        guard case .closedByPeer = reason else {
            return XCTFail("closed because of \(reason)", file: file, line: line)
        }
        XCTAssertEqual(connection.state, .closed, file: file, line: line)
    }
}

/// A server of the library and the one who accepts its connections.
struct Reception {
    let server: DtlsServer
    private var connections: DtlsServer.AsyncIterator

    init(at host: String = "127.0.0.1", _ context: DtlsServerContext) async throws {
        server = try await DtlsServer.bind(host: host, port: 0, context: context)
        connections = server.makeAsyncIterator()
    }

    var address: DtlsAddress { server.localAddress }

    /// The next connection.
    mutating func accept() async throws -> Conversation {
        guard let connection = await connections.next() else {
            throw PeerFailure(description: "the server has closed")
        }
        return Conversation(connection)
    }
}

extension DtlsClientContext {
    /// A context with the tests' pre-shared key and, if given, one list of suites.
    static func preSharedKey(
        _ suites: String? = nil,
        key: DtlsPreSharedKey? = nil,
        handshakeTimeout: Duration = .seconds(10)
    ) throws -> DtlsClientContext {
        var configuration = DtlsConfiguration()
        if let suites { configuration.cipherSuites = .openSSL(suites) }
        configuration.handshakeTimeout = handshakeTimeout
        return try DtlsClientContext(configuration, preSharedKey: try key ?? InteropKey.preSharedKey())
    }

    /// A context that verifies servers and may have a certificate of its own and one list of suites.
    static func certificates(
        _ suites: String? = nil,
        trust: DtlsTrust,
        identity: DtlsIdentity? = nil
    ) throws -> DtlsClientContext {
        var configuration = DtlsConfiguration()
        if let suites { configuration.cipherSuites = .openSSL(suites) }
        configuration.trust = trust
        configuration.identity = identity
        return try DtlsClientContext(configuration)
    }

    /// Connects from a socket of its own to a server.
    func connect(to address: DtlsAddress, serverName: String? = nil) async throws -> Conversation {
        let client = try await DtlsClient.bind(host: address.isIPv6 ? "::1" : "127.0.0.1")
        return Conversation(try await client.connect(to: address, context: self, serverName: serverName))
    }
}

extension DtlsServerContext {
    /// A context with the tests' pre-shared key and, if given, one list of suites.
    static func preSharedKey(_ suites: String? = nil) throws -> DtlsServerContext {
        var configuration = DtlsConfiguration()
        if let suites { configuration.cipherSuites = .openSSL(suites) }
        return try DtlsServerContext(configuration, preSharedKeys: try InteropKey.store())
    }

    /// A context with a certificate, which may require certificates of its clients and have one list of suites.
    static func certificates(
        _ identity: DtlsIdentity,
        _ suites: String? = nil,
        clientsTrustedBy trust: DtlsTrust? = nil
    ) throws -> DtlsServerContext {
        var configuration = DtlsConfiguration()
        if let suites { configuration.cipherSuites = .openSSL(suites) }
        configuration.identity = identity
        configuration.trust = trust
        return try DtlsServerContext(configuration, clientCertificates: trust == nil ? .none : .required)
    }
}

/// Checks that connecting fails, and how.
func expectFailure(
    to address: DtlsAddress,
    _ context: DtlsClientContext,
    file: StaticString = #filePath,
    line: UInt = #line,
    _ check: (DtlsError) -> Void
) async throws {
    do {
        let conversation = try await context.connect(to: address)
        XCTFail("connected: \(conversation.connection.negotiated)", file: file, line: line)
    } catch let error as DtlsError {
        check(error)
    }
}
