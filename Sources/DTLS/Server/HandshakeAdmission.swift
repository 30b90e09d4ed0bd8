/// How many handshakes a server has under way, and whether one more may begin.
struct HandshakeAdmission {
    /// Each costs some ten thousand bytes until it is finished or its time is over.
    static let maximumHandshakes = 10_000

    private var underWay: Set<ObjectIdentifier> = []

    mutating func admit(_ association: Association) -> Bool {
        guard underWay.count < Self.maximumHandshakes else { return false }
        underWay.insert(ObjectIdentifier(association))
        return true
    }

    /// To be called when a handshake is finished or has failed; a second time does nothing.
    mutating func handshakeEnded(_ association: Association) {
        underWay.remove(ObjectIdentifier(association))
    }
}
