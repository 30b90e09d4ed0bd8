import ArgumentParser
public import DTLS

/// Reads the value of `--psk`, which is `IDENTITY:KEY`.
///
/// The first colon ends the identity. The key is the text after it, or, where that begins with `hex:`, the bytes its
/// hexadecimal digits stand for. No error repeats the value: it holds a secret.
public func preSharedKey(argument: String) throws -> DtlsPreSharedKey {
    guard let colon = argument.firstIndex(of: ":") else {
        throw ValidationError("--psk wants IDENTITY:KEY (or IDENTITY:hex:DIGITS), and there is no colon in its value")
    }
    guard colon != argument.startIndex else {
        throw ValidationError("--psk wants IDENTITY:KEY, and nothing stands before the colon")
    }
    let identity = Array(argument[..<colon].utf8)
    let text = argument[argument.index(after: colon)...]
    let key: [UInt8]
    if text.hasPrefix("hex:") {
        guard let decoded = bytes(hexadecimal: text.dropFirst("hex:".count)) else {
            throw ValidationError("the key of --psk after 'hex:' must be an even number of hexadecimal digits")
        }
        key = decoded
    } else {
        key = Array(text.utf8)
    }
    do {
        return try DtlsPreSharedKey(identity: identity, key: DtlsSecretBytes(key))
    } catch {
        throw ValidationError("--psk: \(error)")
    }
}
