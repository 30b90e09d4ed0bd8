/// The network that an address belongs to, as far as limits are concerned: /24 of IPv4, /64 of IPv6. Whoever has one
/// address of it can usually have the others.
struct AddressPrefix: Hashable {
    private let bits: UInt64
    private let isIPv4: Bool

    init(_ address: DtlsAddress) {
        isIPv4 = address.isIPv4
        bits = address.prefixBits
    }
}
