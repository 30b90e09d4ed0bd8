import Glibc

/// This program once more, as the server.
final class ServerProcess {
    let port: UInt16
    private let process: pid_t
    private let toServer: UnsafeMutablePointer<FILE>
    private let fromServer: UnsafeMutablePointer<FILE>

    /// - Parameter wrapper: A program, with its arguments, that the server is to run under.
    init(arguments: [String], wrapper: [String]) throws {
        var input: [Int32] = [0, 0]
        var output: [Int32] = [0, 0]
        guard pipe(&input) == 0, pipe(&output) == 0 else { throw Failure("no pipe") }
        for end in input + output { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO)
        guard let program = realpath("/proc/self/exe", nil) else { throw Failure("this program is not to be found") }
        defer { free(program) }
        let words = wrapper + [String(cString: program), Serve.word] + arguments
        var pointers = words.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process: pid_t = 0
        guard posix_spawnp(&process, words[0], &actions, nil, &pointers, environ) == 0 else {
            throw Failure("\(words[0]) cannot be started")
        }
        close(input[0])
        close(output[1])
        guard let toServer = fdopen(input[1], "w"), let fromServer = fdopen(output[0], "r") else {
            throw Failure("no stream")
        }
        self.process = process
        self.toServer = toServer
        self.fromServer = fromServer
        port = try Self.answer(from: fromServer) { line in
            line.hasPrefix("port ") ? UInt16(line.dropFirst(5)) : nil
        }
    }

    /// What the server's memory comes to, with so many connections.
    func memory(with connections: Int) throws -> MemoryReading {
        fputs("\(connections)\n", toServer)
        fflush(toServer)
        return try Self.answer(from: fromServer) { MemoryReading(line: $0) }
    }

    /// Ends the server and waits for it.
    func end() {
        fclose(toServer)
        fclose(fromServer)
        var status: Int32 = 0
        waitpid(process, &status, 0)
    }

    /// The first line that can be read, whatever a wrapper says before.
    private static func answer<Answer>(
        from stream: UnsafeMutablePointer<FILE>,
        _ read: (String) -> Answer?
    ) throws -> Answer {
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        while getline(&line, &capacity, stream) > 0, let line {
            let text = String(cString: line)
            if let answer = read(String(text.dropLast(text.hasSuffix("\n") ? 1 : 0))) { return answer }
        }
        throw Failure("the server has ended")
    }
}
