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

    func run() async throws {
        try await Meeting.withPreSharedKey().run()
        Console.print("")
        try await Meeting.withCertificate().run()
    }
}
