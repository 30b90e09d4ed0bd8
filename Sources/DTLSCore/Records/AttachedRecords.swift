import COpenSSL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// An association that lives in OpenSSL's `SSL`: handshake, seal and open.
///
/// ``perform(_:)`` is the only caller of the functions that advance an `SSL`. The error queue belongs to the thread and
/// `SSL_get_error(3)` looks at it, so each call clears it before and empties it after, and nothing comes between.
struct AttachedRecords: ~Copyable {
    /// The `SSL`, for calls that only ask.
    let pointer: OpaquePointer

    // OpenSSL calls back into both, even while the SSL is being freed.
    private let bio: DatagramBIO
    private let callbacks: CallbackState

    /// What to do with the `SSL`.
    enum Operation {
        /// `DTLSv1_listen(3)` on the one datagram that holds a ClientHello with a verified cookie.
        case acceptHello
        case handshake
        case handleTimeout
        case read(UnsafeMutableRawBufferPointer)
        case write(UnsafeRawBufferPointer)
        case shutdown
    }

    enum Outcome {
        /// Done; for reading and writing, so many bytes.
        case done(Int)
        /// Nothing more until the next datagram or timeout.
        case waits
        /// The application is to judge the peer's certificates first.
        case waitsForVerdict
        /// The peer has sent close_notify.
        case closedByPeer
        /// An authentic record without content.
        case emptyRecord
        case failed([DtlsOpenSSLError])
    }

    /// Takes over an `SSL` and connects it to its datagrams and callbacks.
    init(_ ssl: consuming OwnedSSL, bio: DatagramBIO, callbacks: CallbackState) throws(DtlsError) {
        try callbacks.attach(to: ssl.pointer)
        let pointer = try bio.makeBIO()
        // Both directions share it; SSL_set_bio takes over the one reference.
        SSL_set_bio(ssl.pointer, pointer, pointer)
        self.pointer = ssl.release()
        self.bio = bio
        self.callbacks = callbacks
    }

    func perform(_ operation: Operation) -> Outcome {
        OpenSSLErrorQueue.clear()
        let result: Int32
        switch operation {
        case .acceptHello:
            guard let address = BIO_ADDR_new() else { return .failed(OpenSSLErrorQueue.drain()) }
            defer { BIO_ADDR_free(address) }
            result = DTLSv1_listen(pointer, address)
            if result == 0 { return .waits }
        case .handshake:
            result = SSL_do_handshake(pointer)
        case .handleTimeout:
            let handled = COpenSSL_DTLSv1_handle_timeout(pointer)
            let errors = OpenSSLErrorQueue.drain()
            return handled < 0 ? .failed(errors) : handled == 0 ? .waits : .done(0)
        case .read(let buffer):
            result = SSL_read(pointer, buffer.baseAddress, Int32(clamping: buffer.count))
        case .write(let bytes):
            result = SSL_write(pointer, bytes.baseAddress, Int32(clamping: bytes.count))
        case .shutdown:
            result = SSL_shutdown(pointer)
            // 0: ours is out, the peer's is not in; both are fine.
            if result >= 0 { return .done(0) }
        }
        if result > 0 { return .done(Int(result)) }
        let reason = SSL_get_error(pointer, result)
        let errors = OpenSSLErrorQueue.drain()
        switch reason {
        case SSL_ERROR_WANT_READ:
            return .waits
        case SSL_ERROR_WANT_RETRY_VERIFY:
            return .waitsForVerdict
        case SSL_ERROR_ZERO_RETURN:
            return .closedByPeer
        case SSL_ERROR_SYSCALL where result == 0 && SSL_get_shutdown(pointer) & SSL_RECEIVED_SHUTDOWN == 0:
            // OpenSSL before 3.2 reports an empty record like an end of file.
            if case .read = operation { return .emptyRecord }
            return .failed(errors)
        default:
            return .failed(errors)
        }
    }

    /// How long until OpenSSL wants ``Operation/handleTimeout``, if its timer runs.
    var retransmissionDelay: Duration? {
        var remaining = timeval()
        guard COpenSSL_DTLSv1_get_timeout(pointer, &remaining) == 1 else { return nil }
        return .seconds(Int64(remaining.tv_sec)) + .microseconds(Int64(remaining.tv_usec))
    }

    /// The suite of the handshake under way, or the one that is in use.
    var cipher: OpaquePointer? {
        SSL_get_pending_cipher(pointer) ?? SSL_get_current_cipher(pointer)
    }

    /// Whether the handshake has come to the peer's ChangeCipherSpec and waits for the Finished behind it.
    var hasKeysOfPeer: Bool {
        let state = SSL_get_state(pointer)
        return state == TLS_ST_SR_CHANGE || state == TLS_ST_CR_CHANGE
    }

    deinit {
        // A peer that vanished must not make OpenSSL throw the session away.
        SSL_set_shutdown(pointer, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        // Here, while `bio` and `callbacks` live.
        SSL_free(pointer)
    }
}
