public import DTLS

extension DtlsStatistics {
    /// Everything in one line of JSON. Counts that are zero are there too, so that a reader finds the same names each
    /// time.
    public var json: String { "{\(fields)}" }

    /// As ``json``, with one more field at the end.
    public func json(adding name: String, _ value: String) -> String {
        "{\(fields),\"\(name)\":\(value)}"
    }

    private var fields: String {
        var fields = [
            ("datagramsReceived", datagramsReceived), ("bytesReceived", bytesReceived),
            ("datagramsSent", datagramsSent), ("bytesSent", bytesSent),
            ("payloadsReceived", payloadsReceived), ("payloadsSent", payloadsSent),
            ("handshakesStarted", handshakesStarted), ("handshakesCompleted", handshakesCompleted),
            ("handshakesResumed", handshakesResumed), ("retransmissions", retransmissions),
            ("cookiesSent", cookiesSent), ("sendFailures", sendFailures),
            ("connectionsHandshaking", connectionsHandshaking), ("connectionsOpen", connectionsOpen),
            ("connectionsEvicted", connectionsEvicted), ("connectionsIdledOut", connectionsIdledOut),
            ("reconnections", reconnections), ("peerMoves", peerMoves), ("mostConnections", mostConnections),
            ("mostHandshakes", mostHandshakes), ("mostQueuedPayloads", mostQueuedPayloads),
            ("mostQueuedDatagrams", mostQueuedDatagrams),
        ].map { "\"\($0.0)\":\($0.1)" }
        // Names of codes and reasons are identifiers: nothing in them needs escaping.
        let failures = handshakesFailed.map { ("\($0.key)", $0.value) }.sorted { $0.0 < $1.0 }
        fields.append("\"handshakesFailed\":{\(failures.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ","))}")
        let drops = DtlsDropReason.allCases.map { "\"\($0)\":\(self.drops[$0])" }
        fields.append("\"drops\":{\(drops.joined(separator: ","))}")
        return fields.joined(separator: ",")
    }
}
