import DTLS

// The secrets of connections, for Wireshark (`-o tls.keylog_file:FILE`). Whoever has them can read the connections.
var configuration = DtlsConfiguration()

// Appended to a file that only its owner can read.
configuration.keyLog = try DtlsKeyLog(file: "secrets.txt")

// Or handed to a closure, a line at a time.
configuration.keyLog = DtlsKeyLog { line in print(line) }

// Or to the file that SSLKEYLOGFILE names, if it is set. The library looks at the variable only when asked to, as here.
configuration.keyLog = try DtlsKeyLog.fromEnvironment()

let context = try DtlsClientContext(configuration)
