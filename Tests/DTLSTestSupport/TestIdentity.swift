package import DTLSCore

/// The certificates of the tests, made at run time and once a run.
package enum TestIdentity {
    /// The names in every server's certificate.
    package static let names = ["localhost", "*.example.org", "127.0.0.1", "::1"]

    /// The root that the tests trust.
    package static var root: DtlsIdentity { get throws { try Cache.root.get() } }

    /// Trust in ``root`` alone.
    package static var trust: DtlsTrust { get throws { .certificates(try root.certificateChain) } }

    /// A server's certificate (P-256) for ``names``.
    package static var server: DtlsIdentity { get throws { try Cache.server.get() } }

    /// A server's certificate (RSA, 2,048 bits) for ``names``.
    package static var rsaServer: DtlsIdentity { get throws { try Cache.rsaServer.get() } }

    /// A client's certificate (P-256).
    package static var client: DtlsIdentity { get throws { try Cache.client.get() } }

    /// A client's certificate (RSA, 2,048 bits).
    package static var rsaClient: DtlsIdentity { get throws { try Cache.rsaClient.get() } }

    /// A server's certificate that an intermediate authority issued, which stands in the chain.
    package static var serverBehindIntermediate: DtlsIdentity { get throws { try Cache.behindIntermediate.get() } }

    /// A server's certificate that expired yesterday.
    package static var expired: DtlsIdentity { get throws { try Cache.expired.get() } }

    /// A server's certificate that is valid from tomorrow.
    package static var notYetValid: DtlsIdentity { get throws { try Cache.notYetValid.get() } }

    /// A server's certificate for `elsewhere.example.net` alone.
    package static var wrongName: DtlsIdentity { get throws { try Cache.wrongName.get() } }

    /// A server's certificate of a root that nobody trusts.
    package static var stranger: DtlsIdentity { get throws { try Cache.stranger.get() } }

    /// A server's certificate of more than 12,000 bytes.
    package static var large: DtlsIdentity { get throws { try Cache.large.get() } }

    /// A client's certificate of more than 12,000 bytes.
    package static var largeClient: DtlsIdentity { get throws { try Cache.largeClient.get() } }

    private typealias Made = Result<DtlsIdentity, any Error>

    private enum Cache {
        static let root = Made { try mint("Test Root", .authority).selfSigned() }
        static let server = Made { try mint("localhost", .server, names: names).signed(by: TestIdentity.root) }
        static let rsaServer = Made {
            try mint("localhost", .server, names: names, key: .rsa()).signed(by: TestIdentity.root)
        }
        static let client = Made { try mint("client", .client).signed(by: TestIdentity.root) }
        static let rsaClient = Made { try mint("client", .client, key: .rsa()).signed(by: TestIdentity.root) }
        static let behindIntermediate = Made {
            let intermediate = try mint("Test Intermediate", .authority).signed(by: TestIdentity.root)
            return try mint("localhost", .server, names: names).signed(by: intermediate)
        }
        static let expired = Made {
            var template = mint("localhost", .server, names: names)
            template.startsAgo = .seconds(2 * 86_400)
            template.validFor = .seconds(-86_400)
            return try template.signed(by: TestIdentity.root)
        }
        static let notYetValid = Made {
            var template = mint("localhost", .server, names: names)
            template.startsAgo = .seconds(-86_400)
            return try template.signed(by: TestIdentity.root)
        }
        static let wrongName = Made {
            try mint("localhost", .server, names: ["elsewhere.example.net"]).signed(by: TestIdentity.root)
        }
        static let stranger = Made {
            let root = try mint("Strange Root", .authority).selfSigned()
            return try mint("localhost", .server, names: names).signed(by: root)
        }
        static let large = Made {
            try mint("localhost", .server, names: names + manyNames).signed(by: TestIdentity.root)
        }
        static let largeClient = Made { try mint("client", .client, names: manyNames).signed(by: TestIdentity.root) }

        private static let manyNames = (0..<220).map { "host-\($0).of-a-rather-long-domain-name-for-size.example.org" }

        private static func mint(
            _ commonName: String,
            _ usage: CertificateMint.Usage,
            names: [String] = [],
            key: DtlsKeyKind = .p256
        ) -> CertificateMint {
            CertificateMint(commonName: commonName, names: names, key: key, usage: usage)
        }
    }
}

/// The pre-shared key of the tests.
package enum TestKey {
    package static let identity = "device-1"
    package static let bytes: [UInt8] = Array(1...16)
    package static let wrongBytes: [UInt8] = Array(2...17)

    /// What a server knows.
    package static let table: [[UInt8]: [UInt8]] = [Array(identity.utf8): bytes]

    package static var right: DtlsPreSharedKey { get throws { try DtlsPreSharedKey(identity: identity, key: bytes) } }
    package static var wrong: DtlsPreSharedKey {
        get throws { try DtlsPreSharedKey(identity: identity, key: wrongBytes) }
    }
    package static var unknown: DtlsPreSharedKey {
        get throws { try DtlsPreSharedKey(identity: "nobody", key: bytes) }
    }
}
