import Dispatch
import ExampleSupport

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The lines of standard input, read on a queue of their own: a read that waits for somebody to type must not hold up
/// one of the few threads all tasks share.
///
/// Unchecked because only `queue` touches what changes.
final class StandardInput: @unchecked Sendable {
    /// A longer line could not be sent in any datagram; it is cut here and not gathered without end.
    private static let maximumLineLength = 1 << 16

    private let queue = DispatchQueue(label: "standard input")
    private var unread: [UInt8] = []
    private var isAtEnd = false

    /// The next line without its line feed, or nil at the end.
    func nextLine() async throws -> [UInt8]? {
        try await withCheckedThrowingContinuation { continuation in
            queue.async {
                continuation.resume(with: Result { try self.readLine() })
            }
        }
    }

    private func readLine() throws -> [UInt8]? {
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                defer { unread.removeSubrange(...end) }
                return Array(unread[..<end])
            }
            if isAtEnd || unread.count > Self.maximumLineLength {
                defer { unread = [] }
                return unread.isEmpty ? nil : unread
            }
            try readMore()
        }
    }

    private func readMore() throws {
        var chunk = [UInt8](repeating: 0, count: 4096)
        let count = read(STDIN_FILENO, &chunk, chunk.count)
        if count > 0 {
            unread += chunk[..<count]
        } else if count == 0 {
            isAtEnd = true
        } else if errno == EAGAIN {
            var waiting = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
            _ = poll(&waiting, 1, -1)
        } else if errno != EINTR {
            throw ExampleFailure("standard input cannot be read: \(String(cString: strerror(errno)))")
        }
    }
}
