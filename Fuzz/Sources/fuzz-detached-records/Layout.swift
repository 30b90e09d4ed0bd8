import FuzzSupport

@testable import DTLSCore

/// How the sealed records of one direction look (RFC 5246 §6.2.3.3, RFC 6347 §4.1, RFC 9146 §4), written down without
/// the library's code.
struct Layout {
    /// What stands in them; empty: nothing does.
    let connectionID: [UInt8]
    /// To a multiple of how many bytes content and type are filled up, if there is a Connection ID.
    let padding: Int
    /// Bytes of the nonce that a record carries.
    let nonceCount: Int
    let tagCount: Int

    static let maximumContent = 16_384

    init(_ algorithm: RecordCipher.Algorithm, connectionID: [UInt8], padding: Int) {
        self.connectionID = connectionID
        self.padding = padding
        nonceCount = algorithm == .chaCha20Poly1305 ? 0 : 8
        tagCount = algorithm == .aes128CCM8 || algorithm == .aes256CCM8 ? 8 : 16
    }

    var headerCount: Int { Wire.recordHeaderSize + connectionID.count }

    /// The fewest bytes that an authentic record has behind its header.
    var minimumBody: Int { nonceCount + tagCount + (connectionID.isEmpty ? 0 : 1) }

    func bodyCount(of contentCount: Int) -> Int {
        guard !connectionID.isEmpty else { return nonceCount + contentCount + tagCount }
        let filled = (contentCount / padding + 1) * padding
        // As much as a record may hold, and no padding beyond it.
        return nonceCount + max(contentCount + 1, min(filled, Self.maximumContent + 1)) + tagCount
    }

    func recordCount(of contentCount: Int) -> Int { headerCount + bodyCount(of: contentCount) }

    /// The header of a record that this side may have sealed.
    func header(_ contentType: UInt8, number: UInt64, bodyCount: Int, epoch: UInt16 = 1) -> [UInt8] {
        [connectionID.isEmpty ? contentType : 25, 0xFE, 0xFD] + Wire.big(UInt64(epoch), 2) + Wire.big(number, 6)
            + connectionID + Wire.big(UInt64(bodyCount), 2)
    }

    /// What a receiver finds in what a sender has sealed: the kind is the last byte that is not zero, if there is a
    /// Connection ID. `nil`: nothing that it may accept.
    func inner(_ contentType: UInt8, _ content: [UInt8]) -> (contentType: UInt8, content: [UInt8])? {
        var content = content
        var contentType = contentType
        if !connectionID.isEmpty {
            content.append(contentType)
            while content.last == 0 { content.removeLast() }
            guard let last = content.popLast() else { return nil }
            contentType = last
        }
        return content.count <= Self.maximumContent ? (contentType, content) : nil
    }
}
