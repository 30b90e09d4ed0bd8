package import DTLSCore

/// What an ``EnginePair`` is made of.
package struct PairOptions {
    package var client = DtlsConfiguration()
    package var server = DtlsConfiguration()

    /// The name that the client expects.
    package var serverName: String? = "localhost"
    package var verification = DtlsServerVerification.chainAndName

    /// Whether the client's context uses pre-shared keys.
    package var clientUsesKeys = false

    /// The key that the client's engine is made with.
    package var clientKey: DtlsPreSharedKey?

    /// What the client answers when it is asked for a key.
    package var clientAnswer = EnginePeer.KeyAnswer.later

    /// The keys that the server knows; `nil` if it uses none.
    package var serverKeys: [[UInt8]: [UInt8]]?

    /// Whether the server's engine has the keys beforehand and asks nobody.
    package var serverEngineKnowsKeys = false

    /// Whether the server leaves its answer to the test.
    package var serverAnswersLater = false
    package var identityHint: [UInt8]?
    package var unknownIdentity = DtlsUnknownIdentityPolicy.pretendWrongKey
    package var clientCertificates = DtlsClientCertificatePolicy.none

    /// Whether strangers meet a ``DtlsHelloGate`` first.
    package var usesGate = true
    package var usesIPv6 = false

    /// Of both directions.
    package var link = LinkConditions()
    package var seed: UInt64 = 1

    /// Without Connection IDs, so that what tests read and forge are the records that everybody knows.
    package init() {
        connectionIDs = .off
    }

    /// The Connection IDs that both sides ask for.
    package var connectionIDs: DtlsConnectionIDs {
        get { client.connectionIDs }
        set {
            client.connectionIDs = newValue
            server.connectionIDs = newValue
        }
    }

    /// Who seals both sides' records.
    package var recordLayer: DtlsRecordLayer {
        get { client.recordLayer }
        set {
            client.recordLayer = newValue
            server.recordLayer = newValue
        }
    }

    /// Both sides have the key of ``TestKey``.
    package static func preSharedKey(_ suites: String? = nil) throws -> PairOptions {
        var options = PairOptions()
        options.clientUsesKeys = true
        options.clientKey = try TestKey.right
        options.serverKeys = TestKey.table
        options.serverName = nil
        if let suites { options.suites = .openSSL(suites) }
        return options
    }

    /// The server has a certificate, of ``TestIdentity/server`` unless another one is given, and the client trusts its
    /// root.
    package static func certificates(_ identity: DtlsIdentity? = nil, _ suites: String? = nil) throws -> PairOptions {
        var options = PairOptions()
        options.server.identity = try identity ?? TestIdentity.server
        options.client.trust = try TestIdentity.trust
        if let suites { options.suites = .openSSL(suites) }
        return options
    }

    /// The suites of both sides.
    package var suites: DtlsCipherSuites {
        get { client.cipherSuites }
        set {
            client.cipherSuites = newValue
            server.cipherSuites = newValue
        }
    }

    /// The MTU of both sides.
    package var mtu: Int {
        get { client.mtu }
        set {
            client.mtu = newValue
            server.mtu = newValue
        }
    }

    /// When both sides send again.
    package var retransmission: DtlsRetransmissionPolicy {
        get { client.retransmission }
        set {
            client.retransmission = newValue
            server.retransmission = newValue
        }
    }
}

extension DtlsRetransmissionPolicy {
    /// The shortest waits that are possible, for tests in which time has to pass.
    package static let quick = waits(.milliseconds(20))

    /// As short at first, and then longer, for a sanitizer or a busy machine that takes longer for a round.
    package static let patient = waits(.milliseconds(20), doublingTo: .milliseconds(640))

    /// Waits that are short, but longer than a busy machine takes for one round of many handshakes at once. (OpenSSL
    /// takes a timer with less than 15 milliseconds left for expired.)
    package static let brisk = waits(.milliseconds(60))

    private static func waits(_ first: Duration, doublingTo last: Duration? = nil) -> Self {
        Self(
            initialTimeout: first,
            factor: last == nil ? 1 : 2,
            maximumTimeout: last ?? first,
            jitter: 0,
            doublesSmallFlights: false
        )
    }
}
