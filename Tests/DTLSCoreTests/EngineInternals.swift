import DTLSTestSupport
import XCTest

@testable import DTLSCore

extension DtlsEngine {
    /// Master secret, client random and server random of an open association, whoever has them.
    func handshakeSecrets() throws -> [UInt8] {
        if let detached { return detached.records.keys.handshake.withUnsafeBytes { Array($0) } }
        let attached = try XCTUnwrap(attached)
        let keys = try XCTUnwrap(RecordKeys(of: attached.records.pointer, suite: attached.records.cipher))
        return keys.handshake.withUnsafeBytes { Array($0) }
    }
}
