import DTLS
import ExampleSupport

/// Sends plain datagrams through DTLS, and counts what cannot be sent.
struct DtlsSender: Sendable {
    enum Outcome: Sendable {
        case sent
        case notSent
        /// The connection has ended; nothing was counted.
        case closed
    }

    let tally: Tally
    let journal: Journal

    func send(_ datagram: UnsafeRawBufferPointer, through connection: DtlsConnection) -> Outcome {
        guard !datagram.isEmpty else {
            tally.dropped(.empty)
            return .notSent
        }
        do {
            guard try connection.trySend(datagram.bytes) else {
                tally.dropped(.socketFull)
                return .notSent
            }
            tally.carriedIntoDtls(datagram.count)
            return .sent
        } catch {
            switch error.code {
            case .payloadTooLarge:
                tally.dropped(.tooLargeForDtls)
                journal.remark(
                    .tooLargeForDtls,
                    "dropped a datagram of \(datagram.count) bytes, as a record has room for "
                        + "\(connection.maximumPayloadSize) (--mtu says how large they may be, where the path allows)"
                )
            case .socketFailed:
                tally.dropped(.socketFull)
                journal.remark(.socketFailed, escapedForTerminal("datagrams are dropped: \(error)".utf8))
            default: return .closed
            }
            return .notSent
        }
    }
}
