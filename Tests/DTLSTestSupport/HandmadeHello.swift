/// A ClientHello made by hand.
package struct HandmadeHello: Sendable {
    package var recordVersion: UInt16 = 0xFEFF
    package var version: UInt16 = 0xFEFD
    package var random = [UInt8](repeating: 0xA5, count: 32)
    package var sessionID: [UInt8] = []
    package var cookie: [UInt8] = []
    package var suites: [UInt16] = [0x00A8]
    package var compressionMethods: [UInt8] = [0]
    /// With their length of two bytes; none at all by default.
    package var extensions: [UInt8] = []
    package var messageSequence: UInt16 = 0
    package var recordSequence: UInt64 = 0

    package init() {}

    package var body: [UInt8] {
        var body = [UInt8(version >> 8), UInt8(truncatingIfNeeded: version)] + random
        body += [UInt8(sessionID.count)] + sessionID
        body += [UInt8(cookie.count)] + cookie
        body += [UInt8(suites.count * 2 >> 8), UInt8(truncatingIfNeeded: suites.count * 2)]
        body += suites.flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] }
        return body + [UInt8(compressionMethods.count)] + compressionMethods + extensions
    }

    /// The hello in a datagram of its own.
    package var datagram: [UInt8] {
        var record = RecordDump.handshake(
            type: 1,
            messageSequence: messageSequence,
            body,
            sequenceNumber: recordSequence
        )
        record.version = recordVersion
        return record.bytes
    }

    /// The same hello as a client sends it upon a HelloVerifyRequest.
    package func answering(_ request: [UInt8]) -> HandmadeHello {
        var second = self
        // Record, message and body headers, version, length of the cookie.
        second.cookie = Array(request.dropFirst(13 + 12 + 3))
        second.messageSequence += 1
        second.recordSequence += 1
        return second
    }
}
