import COpenSSL

// Which way of giving a context its nonce may be taken.

extension RecordCipher {
    /// The object that computes an algorithm with the fewest calls; nil where OpenSSL does not have it.
    ///
    /// That a nonce is taken as a parameter stands in no manual: it is what OpenSSL does, and OpenSSH relies on. So it
    /// is tried out first, against what the manual has, and not at all with providers that may not know of it.
    static func quickest(_ algorithm: Algorithm) -> RecordCipher? {
        guard let plain = RecordCipher(algorithm, takesNonceAsParameter: false) else { return nil }
        guard algorithm.isGCM, plain.isOfDefaultProvider,
            let quick = RecordCipher(algorithm, takesNonceAsParameter: true), quick.agrees(with: plain)
        else { return plain }
        return quick
    }

    /// Whether both come to the same, with a key that stays while nonces come and go, as records do it.
    func agrees(with other: RecordCipher) -> Bool {
        let key = [UInt8](repeating: 0xA5, count: algorithm.keyLength)
        let place = makePlace()
        defer {
            forget(place)
            giveBack(place)
        }
        return key.withUnsafeBytes { bytes in
            let sealing = Key(bytes, in: place)
            let opening = Key(bytes, in: place, second: true)
            let unkept = Key(bytes)
            return (1...3).allSatisfy { number in
                let nonce = [UInt8](repeating: UInt8(number), count: Self.nonceLength)
                let text = [UInt8](repeating: 0x5A, count: 40 * number)
                guard let sealed = seal(text, sealing, nonce), let expected = other.seal(text, unkept, nonce),
                    sealed == expected, open(sealed, opening, nonce) == text
                else { return false }
                // What was wrong must not open, and what is right must open behind it.
                var forged = sealed
                forged[forged.count - 1] ^= 1
                let otherNonce = nonce.dropLast() + [0]
                return open(forged, opening, nonce) == nil && open(sealed, opening, Array(otherNonce)) == nil
                    && open(sealed, opening, nonce) == text
            }
        }
    }

    /// Seals a message, with its nonce as the additional data, too; nil when it went wrong.
    func seal(_ text: [UInt8], _ key: Key, _ nonce: [UInt8]) -> [UInt8]? {
        var sealed = text + [UInt8](repeating: 0, count: algorithm.tagLength)
        let isSealed = sealed.withUnsafeMutableBytes { sealed in
            text.withUnsafeBytes { text in
                nonce.withUnsafeBytes { nonce in
                    seal(
                        text,
                        into: .init(rebasing: sealed.prefix(text.count)),
                        key: key,
                        nonce: nonce,
                        additionalData: nonce,
                        tag: .init(rebasing: sealed.dropFirst(text.count))
                    )
                }
            }
        }
        return isSealed ? sealed : nil
    }

    /// Opens what ``seal(_:_:_:)`` has sealed; nil when it is not authentic.
    func open(_ sealed: [UInt8], _ key: Key, _ nonce: [UInt8]) -> [UInt8]? {
        let count = sealed.count - algorithm.tagLength
        var text = [UInt8](repeating: 0, count: count)
        let isOpened = text.withUnsafeMutableBytes { text in
            sealed.withUnsafeBytes { sealed in
                nonce.withUnsafeBytes { nonce in
                    open(
                        .init(rebasing: sealed.prefix(count)),
                        into: text,
                        key: key,
                        nonce: nonce,
                        additionalData: nonce,
                        tag: .init(rebasing: sealed.dropFirst(count))
                    )
                }
            }
        }
        return isOpened ? text : nil
    }
}
