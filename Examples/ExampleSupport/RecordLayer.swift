public import ArgumentParser
public import DTLS

/// Who seals and opens records, by name, in whatever case.
public enum RecordLayer: String, CaseIterable, ExpressibleByArgument {
    case detached
    case openssl

    /// Reads the value of `--record-layer`.
    public init?(argument: String) {
        self.init(rawValue: argument.lowercased())
    }

    /// What the configuration calls it.
    public var setting: DtlsRecordLayer {
        switch self {
        case .detached: .detached
        case .openssl: .openSSL
        }
    }
}
