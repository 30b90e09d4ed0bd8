import ArgumentParser
import DTLS

// Values that an error may repeat, unlike those of --psk and --ticket-key.

/// Reads the value of `--fingerprint`.
func fingerprint(argument: String) throws -> DtlsFingerprint {
    guard let fingerprint = DtlsFingerprint(argument) else {
        throw ValidationError("a SHA-256 fingerprint has 64 hexadecimal digits, and may have colons between them")
    }
    return fingerprint
}

/// Reads the value of `--srtp`, in whatever case.
func srtpProfile(argument: String) throws -> DtlsSRTPProfile {
    guard let profile = DtlsSRTPProfile.all.first(where: { $0.name == argument.uppercased() }) else {
        throw ValidationError("the profiles are \(srtpProfileNames)")
    }
    return profile
}

/// All SRTP profiles, for people to read.
var srtpProfileNames: String {
    DtlsSRTPProfile.all.map(\.name).joined(separator: ", ")
}
