import XCTest

@testable import DTLSCore

final class DtlsAlertTests: XCTestCase {
    /// The registry "TLS Alerts" of IANA.
    private let registry: [UInt8: String] = [
        0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed",
        22: "record_overflow",
        30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate",
        43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
        47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
        52: "too_many_cids_requested", 60: "export_restriction", 70: "protocol_version", 71: "insufficient_security",
        80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation",
        109: "missing_extension", 110: "unsupported_extension", 111: "certificate_unobtainable",
        112: "unrecognized_name",
        113: "bad_certificate_status_response", 114: "bad_certificate_hash_value", 115: "unknown_psk_identity",
        116: "certificate_required", 117: "general_error", 120: "no_application_protocol", 121: "ech_required",
    ]

    func testEveryNumberHasItsName() {
        for number in UInt8.min...UInt8.max {
            let description = DtlsAlertDescription(rawValue: number)
            XCTAssertEqual(description.rawValue, number)
            XCTAssertEqual(description.name, registry[number])
            XCTAssertEqual(description.description, "\(registry[number] ?? "unknown") (\(number))")
        }
    }

    func testConstants() {
        let constants: [(DtlsAlertDescription, UInt8)] = [
            (.closeNotify, 0), (.unexpectedMessage, 10), (.badRecordMac, 20), (.decryptionFailed, 21),
            (.recordOverflow, 22), (.decompressionFailure, 30), (.handshakeFailure, 40), (.noCertificate, 41),
            (.badCertificate, 42), (.unsupportedCertificate, 43), (.certificateRevoked, 44), (.certificateExpired, 45),
            (.certificateUnknown, 46), (.illegalParameter, 47), (.unknownCA, 48), (.accessDenied, 49),
            (.decodeError, 50), (.decryptError, 51), (.tooManyCIDsRequested, 52), (.exportRestriction, 60),
            (.protocolVersion, 70), (.insufficientSecurity, 71), (.internalError, 80), (.inappropriateFallback, 86),
            (.userCanceled, 90), (.noRenegotiation, 100), (.missingExtension, 109), (.unsupportedExtension, 110),
            (.certificateUnobtainable, 111), (.unrecognizedName, 112), (.badCertificateStatusResponse, 113),
            (.badCertificateHashValue, 114), (.unknownPSKIdentity, 115), (.certificateRequired, 116),
            (.generalError, 117), (.noApplicationProtocol, 120), (.echRequired, 121),
        ]
        XCTAssertEqual(constants.count, registry.count)
        for (constant, number) in constants { XCTAssertEqual(constant.rawValue, number) }
    }

    /// OpenSSL packs level and code into one number.
    func testPacked() {
        XCTAssertEqual(DtlsAlert(packed: 0x0228), DtlsAlert(level: .fatal, code: .handshakeFailure))
        XCTAssertEqual(DtlsAlert(packed: 0x0100), DtlsAlert(level: .warning, code: .closeNotify))
        XCTAssertEqual(DtlsAlert(packed: 0x0173).code, .unknownPSKIdentity)
        XCTAssertEqual(DtlsAlert(packed: -1).level, .fatal)
        XCTAssertEqual(DtlsAlert(level: .fatal, code: .handshakeFailure).description, "fatal handshake_failure (40)")
    }
}
