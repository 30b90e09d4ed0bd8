import DTLSCore
import FuzzSupport

/// Sources before a gate, and what it owes them.
struct Strangers: ~Copyable {
    private var gate: DtlsHelloGate
    var now: ContinuousClock.Instant

    /// What a cookie was given for.
    private struct Issue {
        let source: [UInt8]
        let at: ContinuousClock.Instant
        /// What of the hello it is bound to; `nil` for a hello in fragments.
        let binding: [UInt8]?
    }

    private var issued: [[UInt8]: Issue] = [:]
    private var last: [Int: [UInt8]] = [:]
    private var cookies: [Int: [UInt8]] = [:]
    /// When a source last brought a valid cookie in a first fragment.
    private var proven: [[UInt8]: ContinuousClock.Instant] = [:]

    private let limit: Int

    /// - Parameters:
    ///   - limit: How many hellos in fragments the gate keeps.
    ///   - now: The time.
    init(limit: Int, now: ContinuousClock.Instant) throws {
        var limits = DtlsHelloGate.Limits()
        limits.messages = limit
        gate = try DtlsHelloGate(limits: limits, now: now)
        self.limit = limit
        self.now = now
    }

    private static func address(_ source: Int) -> [UInt8] { [192, 0, 2, UInt8(source & 0xFF), UInt8(source >> 8), 9] }

    /// Sends a datagram and checks what comes back.
    mutating func send(_ datagram: [UInt8], from source: Int) {
        let address = Self.address(source)
        last[source] = datagram
        noteProofs(in: datagram, from: address)
        let starts = DtlsHelloGate.startsWithClientHello(datagram.span.bytes)
        switch gate.judge(datagram.span.bytes, from: address, now: now) {
        case .ignore:
            break
        case .reply(let reply):
            require(starts, "an answer to something that does not start with a ClientHello")
            require(reply.count <= datagram.count, "\(reply.count) bytes out for \(datagram.count) bytes in")
            guard let cookie = Wire.cookie(ofHelloVerifyRequest: reply) else {
                violated("the answer is no HelloVerifyRequest: \(reply)")
            }
            let hello = Wire.Hello(datagram)
            issued[cookie] = Issue(source: address, at: now, binding: hello.flatMap(Self.binding))
            cookies[source] = cookie
        case .accept(let hello):
            _ = (hello.offer.cipherSuites, hello.offer.serverName, hello.offer.hashValue)
            checkAcceptance(of: datagram, from: address)
        }
        require((0...limit).contains(gate.hellosUnderWay), "\(gate.hellosUnderWay) hellos under way")
    }

    private static func binding(_ hello: Wire.Hello) -> [UInt8]? {
        guard hello.isWhole, let afterCookie = hello.afterCookie else { return nil }
        return hello.beforeCookie + afterCookie
    }

    private func isValid(_ cookie: [UInt8], of source: [UInt8]) -> Issue? {
        guard let issue = issued[cookie], issue.source == source, now - issue.at <= .seconds(120) else { return nil }
        return issue
    }

    private mutating func noteProofs(in datagram: [UInt8], from source: [UInt8]) {
        var offset = 0
        for record in Wire.records(datagram) {
            if let hello = Wire.Hello(datagram, at: offset), let issue = isValid(hello.cookie, of: source),
                issue.binding == nil
            {
                proven[source] = now
            }
            offset += record.count
        }
    }

    private func checkAcceptance(of datagram: [UInt8], from source: [UInt8]) {
        if let hello = Wire.Hello(datagram), hello.isWhole {
            guard let issue = isValid(hello.cookie, of: source) else {
                violated("accepted with a cookie that \(source) never got, or too long ago")
            }
            require(issue.binding == Self.binding(hello), "accepted with the cookie of another hello")
        } else {
            guard let time = proven[source], now - time < .seconds(5) else {
                violated("accepted in fragments without a cookie")
            }
        }
    }
}

// MARK: - What strangers do

extension Strangers {
    mutating func repeatLast(from source: Int) {
        if let datagram = last[source] { send(datagram, from: source) }
    }

    /// Sends the last datagram with the cookie that `other` was given.
    mutating func returnCookie(_ source: Int, of other: Int, flipping bit: Int? = nil) {
        guard let datagram = last[source], var cookie = cookies[other] else { return }
        if let bit { cookie[bit / 8 % cookie.count] ^= 1 << UInt8(bit % 8) }
        if let second = Wire.withCookie(cookie, in: datagram) { send(second, from: source) }
    }

    mutating func changeLast(_ input: inout FuzzInput, from source: Int) {
        guard var datagram = last[source], !datagram.isEmpty else { return }
        for _ in 0...input.number(below: 4) {
            datagram[input.number(below: datagram.count)] = input.byte()
        }
        send(datagram, from: source)
    }

    mutating func sendHello(_ input: inout FuzzInput, from source: Int) {
        let sessionID = input.bytes(input.number(below: 34))
        let suites = input.bytes(2 * input.number(below: 40))
        let hello = Self.hello(sessionID: sessionID, suites: suites, extensions: input.counted())
        let sequence = UInt64(input.byte())
        send(
            Wire.fragment(
                1,
                of: hello,
                0..<hello.count,
                messageSequence: Int(sequence & 3),
                sequence: sequence << 40 | sequence
            ),
            from: source
        )
    }

    /// Sends a hello of 700 bytes in pieces of any size, in any order, several records a datagram.
    mutating func sendFragments(_ input: inout FuzzInput, from source: Int, withCookie: Bool) {
        let cookie = withCookie ? cookies[source] ?? [] : []
        let hello = Self.hello(
            sessionID: [],
            suites: [0, 0xA8],
            extensions: [UInt8](repeating: 7, count: 640),
            cookie: cookie
        )
        var datagram: [UInt8] = []
        let count = input.byte()
        // The high bit goes on with a hello of which the gate may have the beginning.
        var offset = count & 0x80 == 0 ? 0 : input.number(below: hello.count)
        for index in 0..<(1 + Int(count & 0x7F) % 12) {
            let plan = input.byte()
            let length = Swift.min(Int(plan) * 4, hello.count - offset)
            datagram += Wire.fragment(
                1,
                of: hello,
                offset..<(offset + length),
                messageSequence: withCookie ? 1 : 0,
                sequence: UInt64(index)
            )
            // An odd plan leaves a hole or an overlap.
            offset = plan & 1 == 0 ? offset + length : input.number(below: hello.count)
            if offset >= hello.count { offset = 0 }
            if plan & 2 == 0 {
                send(datagram, from: source)
                datagram = []
            }
        }
        if !datagram.isEmpty { send(datagram, from: source) }
    }

    /// Many sources that each get a cookie, bring it back in a first fragment, and fall silent.
    mutating func flood(_ excess: UInt8) {
        let count = limit + Int(excess % 8)
        for source in 256..<(256 + count) {
            let first = Self.hello(sessionID: [], suites: [0, 0xA8], extensions: [UInt8](repeating: 0, count: 100))
            send(Wire.fragment(1, of: first, 0..<80, messageSequence: 0, sequence: 0), from: source)
            let second = Self.hello(
                sessionID: [],
                suites: [0, 0xA8],
                extensions: [UInt8](repeating: 0, count: 100),
                cookie: cookies[source] ?? []
            )
            send(Wire.fragment(1, of: second, 0..<80, messageSequence: 1, sequence: 1), from: source)
        }
    }

    /// The body of a ClientHello.
    static func hello(
        sessionID: [UInt8],
        suites: [UInt8],
        extensions: [UInt8],
        cookie: [UInt8] = []
    ) -> [UInt8] {
        var body: [UInt8] = [0xFE, 0xFD] + (0..<32).map { UInt8($0) }
        body += [UInt8(sessionID.count)] + sessionID + [UInt8(cookie.count)] + cookie
        body += Wire.big(UInt64(suites.count), 2) + suites + [1, 0]
        return body + Wire.big(UInt64(extensions.count), 2) + extensions
    }
}
