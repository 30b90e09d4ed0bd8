import COpenSSL

/// What the passphrase callback of OpenSSL's readers finds behind its user data.
final class PassphraseRequest {
    let passphrase: DtlsSecretBytes?
    var wasAsked = false

    init(_ passphrase: DtlsSecretBytes?) { self.passphrase = passphrase }
}

/// `pem_password_cb` that gives the passphrase of a ``PassphraseRequest``, and never asks on the terminal as OpenSSL's
/// own would.
let supplyPassphrase: @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 = {
    buffer,
    size,
    _,
    userdata in
    guard let buffer, let userdata, size > 0 else { return -1 }
    let request = Unmanaged<PassphraseRequest>.fromOpaque(userdata).takeUnretainedValue()
    request.wasAsked = true
    guard let passphrase = request.passphrase, passphrase.count <= Int(size) else { return -1 }
    passphrase.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: buffer, count: Int(size)).copyMemory(from: $0) }
    return Int32(passphrase.count)
}

/// `pem_password_cb` for texts that have no passphrase.
let refusePassphrase: @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 = {
    _,
    _,
    _,
    _ in -1
}

/// Overwrites `bytes` in a way that the optimizer keeps.
func wipe(_ bytes: UnsafeMutableRawBufferPointer) {
    OPENSSL_cleanse(bytes.baseAddress, bytes.count)
}
