import COpenSSL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// OpenSSL's error queue, which belongs to the thread: clear it before a call, drain it right after.
enum OpenSSLErrorQueue {
    static func clear() {
        ERR_clear_error()
    }

    /// Takes all entries, oldest first.
    static func drain() -> [DtlsOpenSSLError] {
        var entries: [DtlsOpenSSLError] = []
        while true {
            var data: UnsafePointer<CChar>?
            var flags: Int32 = 0
            let code = ERR_get_error_all(nil, nil, nil, &data, &flags)
            guard code != 0 else { return entries }
            // More than a handful says nothing more, but the queue must be empty afterwards.
            guard entries.count < 8 else { continue }
            let reason = Self.reason(of: code)
            let hasText = flags & ERR_TXT_STRING != 0
            let detail = hasText ? data.map { String(cString: $0) } ?? "" : ""
            entries.append(DtlsOpenSSLError(code: UInt(code), reason: reason, detail: detail.sanitized()))
        }
    }

    private static func reason(of code: UInt) -> String {
        // What a system call has failed with, of which OpenSSL keeps no text.
        if ERR_GET_LIB(code) == ERR_LIB_SYS { return String(cString: strerror(ERR_GET_REASON(code))) }
        return ERR_reason_error_string(code).map { String(cString: $0) } ?? "error \(code)"
    }

    /// An error of `code` with what the queue holds.
    static func error(
        _ code: DtlsError.Code,
        phase: DtlsError.Phase?,
        _ message: String,
        hint: String? = nil
    ) -> DtlsError {
        DtlsError(code, phase: phase, message, hint: hint, openSSLErrors: drain())
    }

    /// Whether reading PEM, one piece after the other, has ended for want of another piece rather than at a broken one.
    static var saysEndOfPEM: Bool {
        let last = ERR_peek_last_error()
        return last == 0 || ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE
    }

    /// For calls that return a pointer, or nil on failure.
    static func checked<Pointer>(
        _ pointer: Pointer?,
        _ function: StaticString,
        phase: DtlsError.Phase = .configuration
    ) throws(DtlsError) -> Pointer {
        guard let pointer else { throw error(.internalFailure, phase: phase, "\(function) failed") }
        return pointer
    }

    /// For calls that return 1 (or more) on success.
    static func check(
        _ result: Int32,
        _ function: StaticString,
        phase: DtlsError.Phase = .configuration
    ) throws(DtlsError) {
        guard result > 0 else { throw error(.internalFailure, phase: phase, "\(function) failed") }
    }
}
