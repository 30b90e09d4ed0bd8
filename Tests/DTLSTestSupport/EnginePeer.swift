package import DTLSCore
import Foundation

/// An engine and the program around it that keeps the engine's contract: after each input it drains datagrams, then
/// events. It keeps all that comes out for assertions.
package final class EnginePeer {
    /// An answer to a question for a pre-shared key.
    package enum KeyAnswer {
        case client(DtlsPreSharedKey?)
        case server(DtlsSecretBytes?)
        /// The test answers in its own time.
        case later
    }

    package let engine: DtlsEngine

    /// The events so far.
    package private(set) var events: [DtlsEvent] = []

    /// The payloads that came, one an element.
    package private(set) var payloads: [[UInt8]] = []

    /// Every datagram that came out so far.
    package private(set) var sent: [[UInt8]] = []

    /// The questions for a pre-shared key so far.
    package private(set) var requests: [DtlsPreSharedKeyRequest] = []

    private var outbox: [[UInt8]] = []
    private let answer: (DtlsPreSharedKeyRequest) -> KeyAnswer

    package init(_ engine: DtlsEngine, answer: @escaping (DtlsPreSharedKeyRequest) -> KeyAnswer = { _ in .later }) {
        self.engine = engine
        self.answer = answer
    }

    package func start(now: ContinuousClock.Instant = .now) {
        engine.start(now: now)
        settle(now: now)
    }

    package func receive(_ datagram: [UInt8], now: ContinuousClock.Instant = .now) {
        engine.receive(datagram.span.bytes, now: now)
        settle(now: now)
    }

    package func send(_ payload: [UInt8]) throws(DtlsError) {
        defer { settle() }
        try engine.send(payload.span.bytes)
    }

    package func handleTimeout(now: ContinuousClock.Instant) {
        engine.handleTimeout(now: now)
        settle(now: now)
    }

    /// Waits for the engine's own deadline and tells it, again and again until `condition` holds. Nothing arrives
    /// meanwhile. Returns whether it holds.
    package func passTime(until condition: () -> Bool) -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + .seconds(20)
        while !condition() {
            guard let deadline = engine.nextDeadline, clock.now < end else { return false }
            while clock.now < deadline { Thread.sleep(forTimeInterval: 0.001) }
            handleTimeout(now: clock.now)
        }
        return true
    }

    package func close() {
        engine.close()
        settle()
    }

    package func give(_ answer: KeyAnswer, now: ContinuousClock.Instant = .now) {
        switch answer {
        case .client(let key): engine.answer(key.map { .identityAndKey($0) } ?? .unknown, now: now)
        case .server(let secret): engine.answer(secret.map { .key($0) } ?? .unknown, now: now)
        case .later: return
        }
        settle(now: now)
    }

    /// Takes what the engine has to hand out.
    package func settle(now: ContinuousClock.Instant = .now) {
        var open: [DtlsPreSharedKeyRequest] = []
        engine.drainOutbound { span in
            let datagram = span.withUnsafeBytes { Array($0) }
            sent.append(datagram)
            outbox.append(datagram)
        }
        while let event = engine.nextEvent() {
            events.append(event)
            switch event {
            case .applicationData:
                engine.drainApplicationData { span in payloads.append(span.withUnsafeBytes { Array($0) }) }
            case .preSharedKeyRequested(let request):
                requests.append(request)
                open.append(request)
            case .handshakeFinished, .closed, .helloReceived, .certificatesPresented, .sessionEstablished:
                break
            }
        }
        for request in open { give(answer(request), now: now) }
    }

    /// Takes the datagrams that no one has taken yet.
    package func takeOutbox() -> [[UInt8]] {
        defer { outbox = [] }
        return outbox
    }

    /// What the handshake has settled, as the event told it.
    package var finished: DtlsNegotiated? {
        for case .handshakeFinished(let negotiated) in events { return negotiated }
        return nil
    }

    /// Every end that was told. More than one is a fault.
    package var ends: [DtlsCloseReason] {
        events.compactMap { if case .closed(let reason) = $0 { reason } else { nil } }
    }

    /// The error with which it ended, if it did.
    package var failure: DtlsError? {
        if case .failed(let error)? = ends.first { error } else { nil }
    }

    /// A word for each event, for messages and comparisons.
    package var eventNames: [String] {
        events.map {
            switch $0 {
            case .preSharedKeyRequested: "request"
            case .handshakeFinished: "finished"
            case .applicationData: "data"
            case .helloReceived: "hello"
            case .certificatesPresented: "certificates"
            case .sessionEstablished: "session"
            case .closed(let reason): "closed: \(reason)"
            }
        }
    }
}
