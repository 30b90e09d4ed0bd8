import DTLSCore
import DTLSPrimitives
import DTLSTestSupport
import XCTest

@testable import DTLS

/// One test for each fault that was found in dtls2 (`B1` to `B20`): names, certificates, identities.
final class SeedFaultCredentialTests: XCTestCase {
    /// Without a host name the chain was verified, the name was not.
    func testB17TheServersNameIsVerifiedUnlessToldOtherwise() async throws {
        try await withDeadline {
            let named = try DtlsIdentity.selfSigned(commonName: "right.test", names: ["right.test"])
            let server = try await DtlsServer.onLoopback(.presenting(named))
            let client = try await DtlsClient.onLoopback()
            let (address, context) = (server.localAddress, try DtlsClientContext.trusting(named))
            for name in [nil, "wrong.test", "right.test.", "sub.right.test", "127.0.0.2"] {
                let attempt = { try await client.connect(to: address, context: context, serverName: name) }
                if name == "right.test." {
                    // The dot of the root is no part of the name.
                    try await attempt().close()
                } else {
                    let error = await failure { try await attempt() }
                    XCTAssertEqual(error?.code, .certificateRejected, name ?? "no name")
                    // X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
                    let isAddress = name.map { $0.hasPrefix("127.") } ?? true
                    XCTAssertEqual(error?.certificateVerdict?.code, isAddress ? 64 : 62)
                    XCTAssertEqual(error?.certificateVerdict?.depth, 0)
                }
            }
            let byHost = await failure {
                try await client.connect(to: "localhost", port: address.port, context: context)
            }
            XCTAssertEqual(byHost?.code, .certificateRejected)
            try await client.connect(to: address, context: context, serverName: "right.test").close()
            let anyName = try DtlsClientContext.trusting(named, verification: .insecureIgnoreServerName)
            try await client.connect(to: address, context: anyName).close()
            let stranger = try DtlsClientContext.trusting(
                Credentials.localhost(),
                verification: .insecureIgnoreServerName
            )
            let untrusted = await failure { try await client.connect(to: address, context: stranger) }
            XCTAssertEqual(untrusted?.code, .certificateRejected)
            await client.close()
            await server.close()
        }
    }

    /// An IP address was compared with DNS names, and sent as a server name.
    func testB17AnIPAddressIsVerifiedAsOne() async throws {
        try await withDeadline {
            let client = try await DtlsClient.onLoopback()
            // The text of the address as a common name is no IP address entry.
            let textOnly = try DtlsIdentity.selfSigned(commonName: "127.0.0.1")
            let first = try await DtlsServer.onLoopback(.presenting(textOnly))
            let error = await failure {
                try await client.connect(to: first.localAddress, context: .trusting(textOnly))
            }
            XCTAssertEqual(error?.code, .certificateRejected)

            let addressed = try DtlsIdentity.selfSigned(commonName: "server", names: ["127.0.0.1"])
            let second = try await DtlsServer.onLoopback(.presenting(addressed))
            try await client.connect(to: second.localAddress, context: .trusting(addressed)).close()
            for server in [first, second] { await server.close() }
            await client.close()

            let hello = try await WireHello.capture(.trusting(addressed))
            XCTAssertFalse(hello.extensions.contains(0), "an IP address was sent as a server name (RFC 6066 §3)")
            let named = try await WireHello.capture(.trusting(addressed), serverName: "right.test")
            XCTAssertTrue(named.extensions.contains(0), "the server's name was not sent")
        }
    }

    /// A client without a name or address to verify is told so before anything is sent.
    func testB17NoNameIsAnErrorWhereNamesAreVerified() async throws {
        let context = try DtlsClientContext.trusting(Credentials.localhost())
        let error = await failure { try DtlsEngine(client: context.engineContext, serverName: nil) }
        XCTAssertEqual(error?.code, .missingServerName)
        let client = try await DtlsClient.onLoopback()
        let address = client.localAddress
        let empty = await failure { try await client.connect(to: address, context: context, serverName: "") }
        XCTAssertEqual(empty?.code, .missingServerName)
        await client.close()
    }

    /// Something was leaked at every connect.
    func testB18ConnectingAgainAndAgainKeepsTheMemoryFlat() async throws {
        try await withDeadline(seconds: 60) {
            let server = try await DtlsServer.onLoopback()
            let echo = server.echo()
            let client = try await DtlsClient.onLoopback()
            let context = try DtlsClientContext.preSharedKey()
            let connect = { @Sendable (times: Int) in
                for _ in 0..<times {
                    let connection = try await client.connect(to: server.localAddress, context: context)
                    try await connection.expectEcho()
                    connection.close()
                }
            }
            try await connect(100)
            let before = residentMemory()
            try await connect(300)
            // An SSL alone has more than 40,000 bytes; sanitizers keep a few megabytes of their own.
            if let before, let after = residentMemory() { XCTAssertLessThan(after - before, 6 << 20) }
            await client.close()
            await server.close()
            let count = await echo.value
            XCTAssertEqual(count, 400)
        }
    }

    /// A certificate that could not be parsed was passed on as a null pointer.
    func testB19ABadCertificateIsATypedError() async throws {
        let identity = try Credentials.localhost()
        let good = try XCTUnwrap(identity.certificateChain.first).pem
        let cut = String(good.dropLast(80))
        let swapped = good.replacing("MII", with: "MIX", maxReplacements: 1)
        let bad = [
            "", "\0", "not a certificate", cut, swapped, good + swapped, good + cut,
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            try identity.privateKey.pem().withUnsafeBytes { String(decoding: $0, as: UTF8.self) },
        ]
        for pem in bad {
            let error = await failure { try DtlsCertificate.certificates(pem: pem) }
            XCTAssertEqual(error?.code, .invalidCertificate, pem)
        }
        for der in [[], [0x30], [UInt8](repeating: 0xFF, count: 500), identity.certificateChain[0].der + [0]] {
            let error = await failure { try DtlsCertificate(der: der) }
            XCTAssertEqual(error?.code, .invalidCertificate)
        }
        let file = await failure { try DtlsCertificate.certificates(pemFile: "/nowhere/roots.pem") }
        XCTAssertEqual(file?.code, .fileUnreadable)
        XCTAssertEqual(try DtlsCertificate.certificates(pem: "before\n" + good + "between\n" + good).count, 2)
    }

    /// An identity that was no UTF-8 text could not be looked up.
    func testB20IdentitiesAreBytes() async throws {
        try await withDeadline {
            let identities: [[UInt8]] = [
                [0xFF, 0xFE, 0x80, 0x0A, 0x1B], [0xC3], Array("smørrebrød".utf8), [UInt8](repeating: 0xFF, count: 256),
                [],
            ]
            let asked = Lock<[[UInt8]]>([])
            let lookUp = DtlsPreSharedKeyStore { identity in
                asked.withLock { $0.append(identity) }
                return DtlsSecretBytes(Credentials.key)
            }
            let table = DtlsPreSharedKeyStore(
                try identities.map { try DtlsPreSharedKey(identity: $0, key: DtlsSecretBytes(Credentials.key)) }
            )
            for store in [lookUp, table] {
                let server = try await DtlsServer.onLoopback(DtlsServerContext(preSharedKeys: store))
                let client = try await DtlsClient.onLoopback()
                for identity in identities {
                    let key = try DtlsPreSharedKey(identity: identity, key: DtlsSecretBytes(Credentials.key))
                    let near = try await client.connect(to: server.localAddress, context: .preSharedKey(key))
                    let far = try await server.accept()
                    XCTAssertEqual(near.negotiated.preSharedKeyIdentity, identity)
                    XCTAssertEqual(far.negotiated.preSharedKeyIdentity, identity)
                    near.close()
                }
                await client.close()
                await server.close()
            }
            XCTAssertEqual(asked.withLock { $0 }, identities)
        }
    }
}
