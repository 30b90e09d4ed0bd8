public import ArgumentParser
public import DTLS

/// The library's presets by name, in whatever case.
public enum Preset: String, CaseIterable, ExpressibleByArgument {
    case modern
    case webRTC
    case iotConstrained
    case compatible

    /// Reads the value of `--preset`.
    public init?(argument: String) {
        guard let preset = Self.allCases.first(where: { $0.rawValue.lowercased() == argument.lowercased() }) else {
            return nil
        }
        self = preset
    }

    /// The configuration to start from.
    public var configuration: DtlsConfiguration {
        switch self {
        case .modern: .modern
        case .webRTC: .webRTC
        case .iotConstrained: .iotConstrained
        case .compatible: .compatible
        }
    }
}
