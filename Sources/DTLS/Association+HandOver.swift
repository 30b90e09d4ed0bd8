import DTLSCore
import DTLSPrimitives

// An association on its way to another process: its engine, where its peer is, and what nobody has read.

extension Association {
    /// Writes everything and ends. `false`: it cannot be handed over, and lives on.
    ///
    /// - Parameters:
    ///   - writer: Where to write.
    ///   - loop: The loop that it has, of so many.
    func handOver(to writer: SecretWriter, loop: Int, of loops: Int) -> Bool {
        var isHandedOver = false
        let effects = state.withLock { state in
            // A second handshake goes with the first.
            var contents: DtlsSecretBytes?
            // Where it has shown to be.
            let peer = state.path?.former ?? state.peer
            let local = state.local
            let effects = collect(&state) { contents = try? $0.handOver() }
            guard let contents else { return effects }
            // Not before: what cannot be handed over keeps its payloads, behind which readers may wait.
            let payloads = state.inbox.takeAll()
            let entry = SecretWriter()
            entry.append(peer)
            entry.append(UInt8(local == nil ? 0 : 1))
            entry.append(local ?? peer)
            entry.append(UInt8(truncatingIfNeeded: loop))
            entry.append(UInt8(truncatingIfNeeded: loops))
            entry.append(UInt32(truncatingIfNeeded: payloads.count))
            for payload in payloads { entry.appendPrefixed(payload, UInt16.self) }
            entry.append(UInt32(truncatingIfNeeded: contents.count))
            entry.append(contents)
            writer.append(UInt32(truncatingIfNeeded: entry.count))
            writer.append(entry.secret)
            isHandedOver = true
            return effects
        }
        carryOut(effects)
        return isHandedOver
    }

    /// What ``handOver(to:loop:of:)`` has written, as far as it makes sense here.
    struct Arrival {
        let engineState: DtlsSecretBytes
        let peer: DtlsAddress
        let local: DtlsAddress?
        /// Which loop it had, of how many.
        let loop: Int
        let loops: Int
        let payloads: [[UInt8]]

        init?(_ bytes: UnsafeRawBufferPointer) {
            var entry = SecretReader(bytes)
            guard let peer = entry.address(), let hasLocal = entry.number(UInt8.self), let local = entry.address(),
                let loop = entry.number(UInt8.self), let loops = entry.number(UInt8.self), loop < loops,
                let count = entry.number(UInt32.self)
            else { return nil }
            var payloads: [[UInt8]] = []
            for _ in 0..<count {
                guard let payload = entry.prefixed(UInt16.self) else { return nil }
                payloads.append(Array(payload))
            }
            guard let state = entry.prefixed(UInt32.self), entry.isAtEnd else { return nil }
            engineState = DtlsSecretBytes(state)
            self.peer = peer
            self.local = hasLocal == 1 ? local : nil
            self.loop = Int(loop)
            self.loops = Int(loops)
            self.payloads = payloads
        }
    }

    /// Makes an association open that arrives so.
    func settle(_ negotiated: DtlsNegotiated, payloads: [[UInt8]]) {
        state.withLock { state in
            state.negotiated = negotiated
            state.maximumPayloadSize = state.engine?.maximumPayloadSize ?? 0
            for payload in payloads { _ = payload.withUnsafeBytes { state.inbox.add($0) } }
        }
    }
}

extension SecretWriter {
    fileprivate func append(_ address: DtlsAddress) {
        append(address.high)
        append(address.low)
        append(address.scope)
        append(address.port)
    }
}

extension SecretReader {
    fileprivate mutating func address() -> DtlsAddress? {
        guard let high = number(UInt64.self), let low = number(UInt64.self), let scope = number(UInt32.self),
            let port = number(UInt16.self)
        else { return nil }
        return DtlsAddress(high: high, low: low, scope: scope, port: port)
    }
}
