#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// SIGINT and SIGTERM as bytes in a pipe, so that one `poll` waits for them, too.
struct Interrupts {
    /// Something can be read here once a signal has come.
    let descriptor: Int32

    // Written before the handlers are there, which read it.
    private nonisolated(unsafe) static var writeEnd: Int32 = -1

    /// From now on the signals no longer end the process.
    init() throws(PeerError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw PeerError("no pipe could be made: \(String(cString: strerror(errno)))") }
        Self.writeEnd = ends[1]
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                var byte = UInt8(truncatingIfNeeded: number)
                _ = write(Interrupts.writeEnd, &byte, 1)
            }
        }
        descriptor = ends[0]
    }

    /// The signal that came, once something can be read.
    var interruption: Interruption {
        var byte: UInt8 = 0
        return Interruption(number: read(descriptor, &byte, 1) == 1 ? Int32(byte) : SIGTERM)
    }
}

/// A signal told the program to end.
struct Interruption: Error {
    let number: Int32
}

/// The lines of standard input, until a signal comes.
struct InputLines {
    private let interrupts: Interrupts
    private var unread: [UInt8] = []
    private var isAtEnd = false

    /// A session description has no line that is nearly as long.
    private static let maximumLength = 1 << 16

    init(_ interrupts: Interrupts) { self.interrupts = interrupts }

    /// Waits for the next line; `nil` at the end.
    mutating func next() throws(Interruption) -> String? {
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                defer { unread.removeSubrange(...end) }
                return String(decoding: unread[..<end], as: UTF8.self)
            }
            if isAtEnd || unread.count > Self.maximumLength {
                defer { unread = [] }
                return unread.isEmpty ? nil : String(decoding: unread, as: UTF8.self)
            }
            var watched = [
                pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
                pollfd(fd: interrupts.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&watched, 2, -1) > 0 else { continue }
            if watched[1].revents != 0 { throw interrupts.interruption }
            var chunk = [UInt8](repeating: 0, count: 4096)
            let count = read(STDIN_FILENO, &chunk, chunk.count)
            if count > 0 {
                unread += chunk[..<count]
            } else if count == 0 || errno != EINTR && errno != EAGAIN {
                isAtEnd = true
            }
        }
    }
}
