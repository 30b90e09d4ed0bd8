import DTLSCore
import DTLSTestSupport
import Foundation
import XCTest

@testable import DTLS

/// Pins, raw public keys, private keys by URI, and what the linked OpenSSL does not have.
final class TrustTests: XCTestCase {
    private static func connect(
        _ trust: DtlsTrust,
        name: String = "localhost",
        to identity: DtlsIdentity
    ) async throws -> DtlsError? {
        let server = try await DtlsServer.onLoopback(.presenting(identity))
        var result: DtlsError?
        do {
            let meeting = try await Meeting(at: server, DtlsClientContext(.make { $0.trust = trust }), name: name)
            try await meeting.exchange()
            await meeting.close()
        } catch let error as DtlsError {
            result = error
        }
        await server.close()
        return result
    }

    func testPins() async throws {
        try await withDeadline {
            // Neither its issuer nor its dates count.
            let identity = try TestIdentity.expired
            let leaf = identity.certificateChain[0]
            let other = try Credentials.localhost().certificateChain[0]
            let right: [[DtlsPin]] = [
                [.certificate(leaf.sha256Fingerprint)], [.publicKey(leaf.publicKeyFingerprint)],
                [.certificate(other.sha256Fingerprint), .publicKey(leaf.publicKeyFingerprint)],
            ]
            for pins in right {
                let error = try await Self.connect(.pins(pins), name: "any.name.example", to: identity)
                XCTAssertNil(error, "\(pins)")
            }
            let wrong: [[DtlsPin]] = [
                [.certificate(other.sha256Fingerprint)], [.publicKey(other.publicKeyFingerprint)],
                // One kind of fingerprint does not stand for the other.
                [.certificate(leaf.publicKeyFingerprint)], [.publicKey(leaf.sha256Fingerprint)],
                [],
            ]
            for pins in wrong {
                let error = try await Self.connect(.pins(pins), to: identity)
                XCTAssertEqual(error?.code, .certificateRejected, "\(pins)")
                XCTAssertNotNil(error?.certificateVerdict, "\(pins)")
            }
        }
    }

    func testAServerPinsItsClients() async throws {
        try await withDeadline {
            let gadget = try DtlsIdentity.selfSigned(commonName: "gadget")
            let stranger = try DtlsIdentity.selfSigned(commonName: "gadget")
            var configuration = try DtlsConfiguration.trustingTestRoot(identity: TestIdentity.server)
            configuration.trust = .pins([.publicKey(gadget.privateKey.publicKeyFingerprint)])
            let server = try await DtlsServer.onLoopback(
                DtlsServerContext(configuration, clientCertificates: .required)
            )
            let friend = try DtlsClientContext(.trustingTestRoot(identity: gadget))
            let meeting = try await Meeting(at: server, friend)
            XCTAssertEqual(meeting.far.negotiated.peerCertificates, gadget.certificateChain)
            await meeting.close()
            let error = await failure {
                try await Meeting(at: server, DtlsClientContext(.trustingTestRoot(identity: stranger))).close()
            }
            XCTAssertEqual(error?.code, .certificateRejected)
            await server.close()
        }
    }

    // MARK: Keys by URI

    func testPrivateKeysByURI() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("swift-dtls-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func uri(_ name: String, _ bytes: [UInt8]) throws -> String {
            let file = folder.appendingPathComponent(name)
            try Data(bytes).write(to: file)
            return "file:\(file.path)"
        }
        let key = try TestIdentity.server.privateKey
        let plain = try uri("plain.pem", key.pem().copy)
        XCTAssertEqual(try DtlsPrivateKey(uri: plain).publicKeyFingerprint, key.publicKeyFingerprint)

        let passphrase = DtlsSecretBytes(utf8: "open sesame")
        let sealed = try uri("sealed.pem", OpenSSLTweaks.encode(key, as: .encryptedPEM("open sesame")))
        let opened = try DtlsPrivateKey(uri: sealed, passphrase: passphrase)
        XCTAssertEqual(opened.publicKeyFingerprint, key.publicKeyFingerprint)

        let certificate = try uri("certificate.pem", Array(TestIdentity.server.certificateChain[0].pem.utf8))
        let bad: [(String, DtlsSecretBytes?, DtlsError.Code)] = [
            (sealed, nil, .invalidPrivateKey),
            (sealed, DtlsSecretBytes(utf8: "wrong"), .invalidPrivateKey),
            ("file:\(folder.path)/missing.pem", nil, .invalidPrivateKey),
            (certificate, nil, .invalidPrivateKey),
            (plain + "\0", nil, .invalidPrivateKey),
            ("nosuch:x", nil, .unsupported),
        ]
        for (uri, passphrase, code) in bad {
            let error = await failure { try DtlsPrivateKey(uri: uri, passphrase: passphrase) }
            XCTAssertEqual(error?.code, code, "\(uri) \(String(describing: error))")
            XCTAssertEqual(error?.phase, .configuration, uri)
            XCTAssertTrue(OpenSSLTweaks.errorQueueIsEmpty, uri)
        }
        let unanswered = await failure { try DtlsPrivateKey(uri: sealed) }
        XCTAssertEqual(unanswered?.hint, "give its passphrase")
    }

    // MARK: What is there, and what is not

    func testDTLS13IsThereOrRefused() async throws {
        let configuration = DtlsConfiguration.make {
            $0.maximumVersion = .v1_3
            $0.identity = try? TestIdentity.server
        }
        let makes: [@Sendable () throws -> Void] = [
            { _ = try DtlsClientContext(configuration) }, { _ = try DtlsServerContext(configuration) },
        ]
        for make in makes {
            if DtlsEngineContext.linkedVersion >= (4, 1) {
                try make()
            } else {
                let error = await failure { try make() }
                XCTAssertEqual(error?.code, .unsupported)
            }
        }
    }

    func testRawPublicKeysAreThereOrRefused() async throws {
        try await withDeadline {
            let names = [try TestIdentity.server.privateKey, try TestIdentity.client.privateKey]
            func configuration(_ own: DtlsPrivateKey, pinning peer: DtlsPrivateKey) -> DtlsConfiguration {
                .make {
                    $0.rawPublicKeys = .required
                    $0.identity = DtlsIdentity(rawPublicKeyOf: own)
                    $0.trust = .pins([.publicKey(peer.publicKeyFingerprint)])
                }
            }
            let forServer = configuration(names[0], pinning: names[1])
            guard DtlsEngineContext.linkedVersion >= (3, 2) else {
                for make in [
                    { _ = try DtlsServerContext(forServer, clientCertificates: .required) },
                    { _ = try DtlsClientContext(forServer) },
                ] {
                    let error = await failure(of: make)
                    XCTAssertEqual(error?.code, .unsupported)
                }
                return
            }
            let server = try await DtlsServer.onLoopback(DtlsServerContext(forServer, clientCertificates: .required))
            let friend = try DtlsClientContext(configuration(names[1], pinning: names[0]))
            let meeting = try await Meeting(at: server, friend)
            XCTAssertEqual(meeting.near.negotiated.peerCertificates, [])
            XCTAssertEqual(meeting.near.negotiated.peerPublicKeyFingerprint, names[0].publicKeyFingerprint)
            XCTAssertEqual(meeting.far.negotiated.peerPublicKeyFingerprint, names[1].publicKeyFingerprint)
            try await meeting.exchange()
            await meeting.close()
            let strangers = [
                configuration(names[0], pinning: names[0]),  // whom the server does not know
                configuration(names[1], pinning: names[1]),  // who does not know the server
            ]
            for stranger in strangers {
                let error = await failure { try await Meeting(at: server, DtlsClientContext(stranger)).close() }
                XCTAssertEqual(error?.code, .certificateRejected)
            }
            await server.close()
        }
    }
}

extension DtlsEngineContext {
    /// Major and minor version of the linked OpenSSL.
    static var linkedVersion: (Int, Int) {
        let words = openSSLVersion.split(separator: " ")
        let numbers = (words.count > 1 ? words[1] : "").split(separator: ".").compactMap { Int($0) }
        return numbers.count > 1 ? (numbers[0], numbers[1]) : (0, 0)
    }
}
