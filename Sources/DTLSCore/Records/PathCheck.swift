/// The messages of a return routability check (RFC 9853 §4): a kind and a cookie of eight bytes.
struct PathCheck {
    enum Kind: UInt8 {
        case challenge = 0
        case response = 1
        case drop = 2
    }

    static let cookieLength = 8

    let kind: Kind
    let cookie: [UInt8]

    init(_ kind: Kind, _ cookie: [UInt8]) {
        self.kind = kind
        self.cookie = cookie
    }

    /// `nil` for what is none, or of a kind that is not known, which is to be ignored.
    init?(_ content: [UInt8]) {
        guard content.count == 1 + Self.cookieLength, let kind = Kind(rawValue: content[0]) else { return nil }
        self.init(kind, Array(content[1...]))
    }

    var content: [UInt8] { [kind.rawValue] + cookie }
}
