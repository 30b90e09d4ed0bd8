import DTLSTestSupport
import XCTest

@testable import DTLSCore

extension DtlsHelloGate {
    /// Judges what a client at `source` sent.
    mutating func judge(
        _ datagram: [UInt8],
        from source: [UInt8] = EnginePair.clientAddress,
        now: ContinuousClock.Instant = .now
    ) -> Verdict {
        judge(datagram.span.bytes, from: source, now: now)
    }
}

extension DtlsHelloGate.Verdict {
    var isIgnore: Bool { if case .ignore = self { true } else { false } }
    var reply: [UInt8]? { if case .reply(let bytes) = self { bytes } else { nil } }
    var hello: DtlsClientHello? { if case .accept(let hello) = self { hello } else { nil } }
}

extension HandmadeHello {
    /// What a gate makes of this hello once it has come back with its cookie.
    func accepted() throws -> DtlsClientHello {
        var gate = try DtlsHelloGate()
        let reply = try XCTUnwrap(gate.judge(datagram).reply, "the gate does not answer")
        return try XCTUnwrap(gate.judge(answering(reply).datagram).hello, "the gate does not take its own cookie")
    }
}
