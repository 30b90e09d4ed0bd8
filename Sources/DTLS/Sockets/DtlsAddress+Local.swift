import CPosixUDP

// The form in which the system tells and takes the local address of a datagram.

extension DtlsAddress {
    /// Nil when the system did not tell.
    init?(_ local: CPosixUDP_Local, port: UInt16) {
        guard local.isKnown != 0 else { return nil }
        self.init(
            high: UInt64(bigEndian: local.high),
            low: UInt64(bigEndian: local.low),
            scope: local.interface,
            port: port
        )
    }
}

extension CPosixUDP_Local {
    /// Names the interface for link-local addresses only, which mean nothing without it. For all others routing
    /// decides, as the way back need not be the way that the datagram came.
    init(_ address: DtlsAddress?) {
        guard let address, !address.isWildcard else {
            self.init()
            return
        }
        self.init(
            isKnown: 1,
            interface: address.scope,
            high: address.high.bigEndian,
            low: address.low.bigEndian
        )
    }
}
