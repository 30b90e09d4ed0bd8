import ArgumentParser
import DTLS
import ExampleSupport

@main
struct DtlsHello: ExampleCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-hello",
        abstract: "A DTLS server and a DTLS client meet in one process and tell what happens.",
        discussion: """
            They talk over the loopback interface, twice: first both know a pre-shared key, then the server shows a \
            certificate (made on the spot) which the client verifies. No argument is needed, and nothing is left behind.
            """
    )

    @Option(
        help: ArgumentHelp(
            "Write what the clients send and receive to a file for Wireshark and tshark (pcapng), with the secrets to decrypt "
                + "it. What was in the file before is lost.",
            valueName: "file"
        )
    )
    var pcap: String?

    func run() async throws {
        let capture = try pcap.map { try DtlsCapture(file: $0) }
        try await Meeting.withPreSharedKey(capture).run()
        Console.print("")
        try await Meeting.withCertificate(capture).run()
    }
}
