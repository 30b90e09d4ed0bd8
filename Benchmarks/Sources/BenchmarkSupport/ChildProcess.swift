import Dispatch
import Glibc

/// This program once more, with other arguments: what is measured, so that who measures does not count.
///
/// The two talk in lines, over its standard input and output. It should end with its input (``inputLines()``).
package final class ChildProcess {
    private let process: pid_t
    private let toChild: UnsafeMutablePointer<FILE>
    private let fromChild: UnsafeMutablePointer<FILE>

    /// - Parameter wrapper: A program, with its arguments, that the child is to run under.
    package init(arguments: [String], wrapper: [String] = []) throws {
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
        let words = wrapper + [String(cString: program)] + arguments
        var pointers = words.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        var process: pid_t = 0
        guard posix_spawnp(&process, words[0], &actions, nil, &pointers, environ) == 0 else {
            throw Failure("\(words[0]) cannot be started")
        }
        close(input[0])
        close(output[1])
        guard let toChild = fdopen(input[1], "w"), let fromChild = fdopen(output[0], "r") else {
            throw Failure("no stream")
        }
        self.process = process
        self.toChild = toChild
        self.fromChild = fromChild
    }

    package func tell(_ line: String) {
        fputs("\(line)\n", toChild)
        fflush(toChild)
    }

    /// The first line that can be read, whatever a wrapper says before.
    package func answer<Answer>(_ read: (String) -> Answer?) throws -> Answer {
        var line: UnsafeMutablePointer<CChar>?
        var capacity = 0
        defer { free(line) }
        while getline(&line, &capacity, fromChild) > 0, let line {
            let text = String(cString: line)
            if let answer = read(String(text.dropLast(text.hasSuffix("\n") ? 1 : 0))) { return answer }
        }
        throw Failure("a process that was started has ended")
    }

    /// The number behind `word`, in the next line that begins with it.
    package func number(after word: String) throws -> Int {
        try answer { $0.hasPrefix("\(word) ") ? Int($0.dropFirst(word.utf8.count + 1)) : nil }
    }

    /// The CPU time of all of its threads so far, in nanoseconds.
    package var cpuTime: Double {
        get throws {
            var clock: clockid_t = 0
            guard clock_getcpuclockid(process, &clock) == 0 else { throw Failure("a process has no clock") }
            return try BenchmarkSupport.cpuTime(of: clock)
        }
    }

    /// Has it end, and waits for it.
    package func end() {
        fclose(toChild)
        fclose(fromChild)
        var status: Int32 = 0
        waitpid(process, &status, 0)
    }
}

/// The CPU time of all threads of this process, in nanoseconds.
package func ownCPUTime() throws -> Double { try cpuTime(of: CLOCK_PROCESS_CPUTIME_ID) }

private func cpuTime(of clock: clockid_t) throws -> Double {
    var time = timespec()
    guard clock_gettime(clock, &time) == 0 else { throw Failure("a clock cannot be read") }
    return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
}

/// The lines of standard input, read on a thread that may be blocked. Their end is the end of the process, whatever
/// it waits for: also where who started it was killed.
package func inputLines() -> AsyncStream<String> {
    let (lines, continuation) = AsyncStream.makeStream(of: String.self)
    DispatchQueue.global().async {
        while let line = readLine() { continuation.yield(line) }
        // Without closing anything: a profiler sees it all then.
        Glibc.exit(0)
    }
    return lines
}
