import ArgumentParser
public import DTLS

/// Reads the value of `--ticket-key`, the hexadecimal digits of a ticket secret.
///
/// No error repeats the value: it is a secret.
public func ticketSecret(argument: String) throws -> DtlsSecretBytes {
    let length = DtlsTicketKeys.secretLength
    guard let secret = bytes(hexadecimal: argument), secret.count == length else {
        throw ValidationError(
            "--ticket-key wants \(length) bytes, which are \(2 * length) hexadecimal digits (openssl rand -hex \(length))"
        )
    }
    return DtlsSecretBytes(secret)
}
