/// Who seals and opens records once the handshake is finished.
public enum DtlsRecordLayer: Sendable, Hashable {
    /// This library, on OpenSSL's AEAD ciphers; OpenSSL's `SSL` is freed when the handshake is finished. The default.
    ///
    /// An association needs a small part of the memory then, and nothing that comes after its handshake reaches
    /// `libssl`. What a peer sees is the same. It concerns the AEAD suites of DTLS 1.2: associations with others stay
    /// with OpenSSL, as do all of a context whose ``DtlsConfiguration/maximumVersion`` is DTLS 1.3.
    case detached

    /// OpenSSL's `SSL`, for as long as the association lives. Without Connection IDs, which OpenSSL does not know, and
    /// without hand-overs (``DtlsEngine/handOver()``).
    case openSSL

    /// What configurations begin with.
    static var standard: DtlsRecordLayer {
        // How the tests run a second time, with the other one.
        #if DTLS_STANDARD_RECORD_LAYER_OPENSSL
            .openSSL
        #else
            .detached
        #endif
    }
}
