import DTLSCore
import DTLSTestSupport
import Foundation

@testable import DTLS

/// An authority that issues certificates, revocation lists and OCSP responses, by way of the `openssl` program.
struct TestAuthority: Sendable {
    let folder: ScratchFolder
    let root: DtlsIdentity
    /// Two certificates for `localhost`, of which the second is revoked.
    let good: DtlsIdentity
    let revoked: DtlsIdentity

    private static let configuration = """
        [ca]
        default_ca = test
        [test]
        database = index.txt
        crlnumber = crlnumber
        default_md = sha256
        default_crl_days = 1
        certificate = root.pem
        private_key = root.key

        """

    init(_ name: String = "Revoking Root") throws {
        folder = try ScratchFolder()
        let root = try CertificateMint(commonName: name, usage: .authority).selfSigned()
        self.root = root
        func issue(_ name: String) throws -> DtlsIdentity {
            try CertificateMint(commonName: name, names: ["localhost", "127.0.0.1"]).signed(by: root)
        }
        good = try issue("good")
        revoked = try issue("revoked")
        try folder.write(Array(root.certificateChain[0].pem.utf8), to: "root.pem")
        try folder.write(root.privateKey.pem().copy, to: "root.key")
        try folder.write(Array(good.certificateChain[0].pem.utf8), to: "good.pem")
        try folder.write(Array(revoked.certificateChain[0].pem.utf8), to: "revoked.pem")
        try folder.write(Array(Self.configuration.utf8), to: "ca.cnf")
        try folder.write(Array("1000\n".utf8), to: "crlnumber")
        // Status, expiry, revocation, serial number, file, subject.
        let lines = [
            "V\t491231235959Z\t\t\(Self.serial(good))\tunknown\t/CN=good",
            "R\t491231235959Z\t250101000000Z\t\(Self.serial(revoked))\tunknown\t/CN=revoked",
        ]
        try folder.write(Array((lines.joined(separator: "\n") + "\n").utf8), to: "index.txt")
    }

    private static func serial(_ identity: DtlsIdentity) -> String {
        let digits = identity.certificateChain[0].serialNumber.uppercased().filter { $0.isHexDigit }
        return digits.count % 2 == 0 ? digits : "0" + digits
    }

    /// The list on which ``revoked`` stands.
    func revocationLists() throws -> [DtlsRevocationList] {
        _ = try revocationListText()
        return try DtlsRevocationList.lists(pemFile: folder.path("crl.pem"))
    }

    /// The same in PEM.
    func revocationListText() throws -> String {
        try CommandLineTool.run("openssl", ["ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem"], in: folder.url)
        return try String(contentsOfFile: folder.path("crl.pem"), encoding: .utf8)
    }

    /// A response about the certificate called `name`, signed by the root.
    func ocspResponse(_ name: String) throws -> [UInt8] {
        let issuer = ["-issuer", "root.pem"]
        try CommandLineTool.run(
            "openssl",
            ["ocsp"] + issuer + ["-cert", "\(name).pem", "-reqout", "\(name).req"],
            in: folder.url
        )
        let signer = ["-rsigner", "root.pem", "-rkey", "root.key", "-CA", "root.pem"]
        let files = ["-reqin", "\(name).req", "-respout", "\(name).resp"]
        try CommandLineTool.run(
            "openssl",
            ["ocsp", "-index", "index.txt", "-ndays", "1", "-resp_no_certs"] + signer + files,
            in: folder.url
        )
        return try folder.read("\(name).resp")
    }

    /// Trust in the root, with revocation lists if there are any.
    func trust(_ lists: [DtlsRevocationList] = []) -> DtlsTrust {
        var trust = DtlsTrust.certificates(root.certificateChain)
        trust.revocationLists = lists
        return trust
    }
}
