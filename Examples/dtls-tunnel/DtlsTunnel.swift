import ArgumentParser
import ExampleSupport

@main
struct DtlsTunnel: ExampleCommand {
    static let configuration = CommandConfiguration(
        commandName: "dtls-tunnel",
        abstract: "Carries plain UDP datagrams through DTLS.",
        discussion: """
            One end is in front of a plain UDP service, the other one near plain UDP clients. Either may have something \
            else that speaks DTLS at the other side:

              plain client -> dtls-tunnel client => dtls-tunnel server -> plain service

              dtls-tunnel server --listen 5684 --to 127.0.0.1:5683 --psk sensor-1:secret
              dtls-tunnel client --listen 5683 --to gateway.example:5684 \\
                  --psk sensor-1:secret

            Datagrams keep their boundaries, and may be lost, as ever with UDP.
            """,
        subcommands: [ServerCommand.self, ClientCommand.self]
    )
}
