import DTLSCore
import DTLSPrimitives
import Dispatch

@testable import DTLS

/// A UDP relay between one client and a server, which records what passes and may drop, repeat, join, hold back and add
/// datagrams.
///
/// The server sees one and the same address, whichever client sends: so a second client is a peer that has started
/// anew.
///
/// `@unchecked Sendable`: the sources are set in `init` and cancelled in `deinit`; everything else is constant or
/// behind the lock.
final class Relay: @unchecked Sendable {
    enum Direction: Sendable { case toServer, toClient }

    struct Datagram: Sendable {
        let direction: Direction
        /// Its number among those of its direction.
        let index: Int
        let bytes: [UInt8]
    }

    /// What is sent in a datagram's place.
    typealias Rule = @Sendable (Datagram) -> [[UInt8]]

    private struct State {
        var client: DtlsAddress?
        var rule: Rule = { [$0.bytes] }
        var recorded: [Datagram] = []
        var server: DtlsAddress
    }

    private let front: RawSocket
    private let back: RawSocket
    private let state: Lock<State>
    private var sources: [any DispatchSourceRead] = []

    init(to server: DtlsAddress, _ rule: Rule? = nil) throws {
        state = Lock(State(server: server))
        front = try RawSocket()
        back = try RawSocket()
        if let rule { self.rule(rule) }
        let queue = DispatchQueue(label: "relay")
        for (socket, direction) in [(front, Direction.toServer), (back, .toClient)] {
            let source = DispatchSource.makeReadSource(fileDescriptor: socket.descriptor, queue: queue)
            source.setEventHandler { [weak self] in self?.pass(from: socket, direction) }
            // Keeps the descriptor open for as long as the source looks at it.
            source.setCancelHandler { withExtendedLifetime(socket) {} }
            source.activate()
            sources.append(source)
        }
    }

    deinit {
        for source in sources { source.cancel() }
    }

    /// Where clients find the relay.
    var address: DtlsAddress { front.address }

    /// As whom the server knows the client.
    var addressAtServer: DtlsAddress { back.address }

    /// Everything that came in, dropped or not.
    var recorded: [Datagram] { state.withLock { $0.recorded } }

    func recorded(_ direction: Direction) -> [[UInt8]] {
        recorded.filter { $0.direction == direction }.map(\.bytes)
    }

    /// Sets what happens to the datagrams that come from now on.
    func rule(_ rule: @escaping Rule) {
        state.withLock { $0.rule = rule }
    }

    /// Keeps the one datagram to the server that `send` brings about, which goes no further.
    func keep(_ send: () async throws -> Void) async throws -> [UInt8] {
        let before = recorded(.toServer).count
        rule { $0.direction == .toServer ? [] : [$0.bytes] }
        try await send()
        try await eventually("the relay has the datagram") { recorded(.toServer).count > before }
        passEverything()
        return recorded(.toServer)[before]
    }

    /// Has another server in the first one's place from now on, as if that had been restarted.
    func redirect(to server: DtlsAddress) {
        state.withLock { $0.server = server }
    }

    func passEverything() {
        rule { [$0.bytes] }
    }

    /// Sends a datagram of the test's own, as if the other side had sent it.
    ///
    /// - Parameter address: Another address of the server's.
    func inject(_ bytes: [UInt8], _ direction: Direction, at address: DtlsAddress? = nil) {
        switch direction {
        case .toServer: back.send(bytes, to: address ?? state.withLock { $0.server })
        case .toClient: if let client = state.withLock({ $0.client }) { front.send(bytes, to: client) }
        }
    }

    private func pass(from socket: RawSocket, _ direction: Direction) {
        while let (bytes, source) = socket.receiveNow() {
            let (rule, datagram) = state.withLock { state in
                if direction == .toServer { state.client = source }
                let index = state.recorded.count { $0.direction == direction }
                let datagram = Datagram(direction: direction, index: index, bytes: bytes)
                state.recorded.append(datagram)
                return (state.rule, datagram)
            }
            for bytes in rule(datagram) { inject(bytes, direction) }
        }
    }
}

// MARK: - What stands in datagrams

/// A record as it stands on the wire (RFC 6347 §4.1).
struct WireRecord {
    let contentType: UInt8
    let epoch: UInt16
    let body: ArraySlice<UInt8>

    /// The type of the handshake message in it; `nil` when it is none in clear.
    var handshakeType: UInt8? { contentType == 22 && epoch == 0 ? body.first : nil }

    /// The records that make up a datagram; `nil` when something is left over or cut off.
    static func all(in datagram: [UInt8]) -> [WireRecord]? {
        var records: [WireRecord] = []
        var rest = datagram[...]
        while !rest.isEmpty {
            let header = Array(rest.prefix(13))
            guard header.count == 13 else { return nil }
            // Servers' Connection IDs have eight bytes, unless they are told otherwise.
            let size = header[0] == 25 ? 21 : 13
            guard rest.count >= size else { return nil }
            let end = rest.startIndex + size
            let length = Int(rest[end - 2]) << 8 | Int(rest[end - 1])
            let body = rest[end...].prefix(length)
            guard body.count == length else { return nil }
            records.append(
                WireRecord(contentType: header[0], epoch: UInt16(header[3]) << 8 | UInt16(header[4]), body: body)
            )
            rest = rest.dropFirst(size + length)
        }
        return records
    }
}

/// A ClientHello of the library's own client, to be varied.
struct WireHello: Sendable {
    /// The datagram: record header (13 bytes), handshake header (12), version (2), random (32), session ID, cookie, the
    /// rest.
    private(set) var bytes: [UInt8]

    /// Lets a client connect to a socket, and takes what it sends.
    static func capture(_ context: DtlsClientContext, serverName: String? = nil) async throws -> WireHello {
        let socket = try RawSocket()
        let client = try await DtlsClient.onLoopback()
        let connect = Task {
            try await client.connect(to: socket.address, context: context, serverName: serverName)
        }
        let hello = WireHello(bytes: try await socket.receive().bytes)
        connect.cancel()
        _ = await connect.result
        await client.close()
        return hello
    }

    /// Another handshake's hello.
    func with(random seed: UInt64) -> WireHello {
        var copy = self
        for index in 0..<8 { copy.bytes[27 + index] = UInt8(truncatingIfNeeded: seed >> (8 * UInt64(index))) }
        return copy
    }

    /// The second hello, which brings the cookie of a HelloVerifyRequest.
    func with(cookie: [UInt8]) -> WireHello {
        var copy = self
        let cookieLength = 60 + Int(bytes[59])
        copy.bytes[cookieLength] = UInt8(cookie.count)
        copy.bytes.insert(contentsOf: cookie, at: cookieLength + 1)
        let body = copy.bytes.count - 25
        copy.bytes[10] = 1  // the record's sequence number
        copy.bytes[18] = 1  // the message's
        for (offset, value) in [(11, body + 12), (15, body), (23, body)] {
            copy.bytes[offset] = UInt8(value >> 8)
            copy.bytes[offset + 1] = UInt8(value & 0xFF)
        }
        return copy
    }

    /// The cookie in a HelloVerifyRequest; `nil` when the datagram is none.
    static func cookie(in datagram: [UInt8]) -> [UInt8]? {
        guard let records = WireRecord.all(in: datagram), records.count == 1, records[0].handshakeType == 3 else {
            return nil
        }
        let body = Array(records[0].body)
        guard body.count > 15, body.count == 15 + Int(body[14]) else { return nil }
        return Array(body[15...])
    }

    /// The numbers of the hello's extensions.
    var extensions: [UInt16] {
        func uint16(_ offset: Int) -> Int { Int(bytes[offset]) << 8 | Int(bytes[offset + 1]) }
        var offset = 60 + Int(bytes[59])
        offset += 1 + Int(bytes[offset])
        offset += 2 + uint16(offset)
        offset += 1 + Int(bytes[offset]) + 2
        var found: [UInt16] = []
        while offset + 4 <= bytes.count {
            found.append(UInt16(uint16(offset)))
            offset += 4 + uint16(offset + 2)
        }
        return found
    }
}
