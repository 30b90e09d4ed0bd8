import DTLSTestSupport
import XCTest

@testable import DTLSCore

/// Nonces that OpenSSL is given as a parameter, beside those that the manual has it initialised with.
final class NonceParameterTests: XCTestCase {
    func testGCMTakesThemAsParametersWhereItIsOpenSSLsOwn() throws {
        for algorithm in RecordCipher.Algorithm.allCases where algorithm.isGCM {
            let cipher = try XCTUnwrap(RecordCipher.of(algorithm))
            XCTAssertEqual(cipher.takesNonceAsParameter, cipher.isOfDefaultProvider, "\(algorithm)")
        }
    }

    func testOtherAlgorithmsDoNot() {
        for algorithm in RecordCipher.Algorithm.allCases where !algorithm.isGCM {
            XCTAssertNotEqual(RecordCipher.of(algorithm)?.takesNonceAsParameter, true, "\(algorithm)")
        }
    }

    /// What decides, decides rightly: it finds fault with those that do not know of it, and with none that do.
    func testWhoDoesNotKnowOfItIsFoundOut() throws {
        for algorithm in RecordCipher.Algorithm.allCases {
            guard let plain = RecordCipher(algorithm, takesNonceAsParameter: false) else { continue }
            let quick = try XCTUnwrap(RecordCipher(algorithm, takesNonceAsParameter: true))
            XCTAssertTrue(plain.agrees(with: plain), "\(algorithm)")
            if plain.isOfDefaultProvider { XCTAssertEqual(quick.agrees(with: plain), algorithm.isGCM, "\(algorithm)") }
        }
        XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty)
    }

    /// Two different ciphers never agree.
    func testWhatComesToSomethingElseIsFoundOut() throws {
        let gcm = try XCTUnwrap(RecordCipher(.aes256GCM, takesNonceAsParameter: true))
        let other = try XCTUnwrap(RecordCipher(.chaCha20Poly1305, takesNonceAsParameter: false))
        XCTAssertFalse(gcm.agrees(with: other))
    }

    /// As many bytes are read of it as the context was made for.
    func testANonceOfAnotherLengthIsRefused() throws {
        let cipher = try XCTUnwrap(RecordCipher.of(.aes128GCM))
        let key = [UInt8](repeating: 7, count: 16)
        let text = [UInt8](repeating: 1, count: 20)
        for nonce in [[UInt8](repeating: 2, count: 12), [UInt8](repeating: 2, count: 11), []] {
            let sealed = key.withUnsafeBytes { cipher.seal(text, .init($0), nonce) }
            XCTAssertEqual(sealed != nil, nonce.count == 12)
        }
    }
}
