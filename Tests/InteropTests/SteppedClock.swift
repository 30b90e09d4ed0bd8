import Foundation

#if os(Linux)
    /// A wall clock that a test sets, for example programs: none but theirs, and not the machine's.
    ///
    /// A small library, compiled here, takes the place of the C library's functions that tell the wall clock's time. It
    /// adds as many seconds as a file says.
    struct SteppedClock {
        private let library: String
        private let file: String
        private let directory: URL

        /// What programs need in their environment to have this clock.
        var environment: [String: String] { ["LD_PRELOAD": library, "STEPPED_CLOCK": file] }

        init(_ peers: Peers) async throws {
            directory = peers.directory
            let source = try peers.write(Self.source, to: "clock.c")
            file = try peers.write("0", to: "step")
            library = directory.appendingPathComponent("clock.so").path
            let arguments = ["-shared", "-fPIC", "-O1", "-o", library, source]
            let compiler = try peers.start("clang", arguments)
            guard try await compiler.waitForExit() == 0 else { throw PeerFailure(description: compiler.description) }
        }

        /// Sets the clock of all programs to so many seconds from the true time.
        func step(by seconds: Int) throws {
            // At once, so that no program reads half of it.
            try Data("\(seconds)".utf8).write(to: URL(fileURLWithPath: file), options: .atomic)
        }

        /// How many programs have seen the clock after a step.
        func witnesses() throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: directory.path).count { $0.hasPrefix("step.seen.") }
        }

        // gettimeofday is what OpenSSL's timer reads; see there for the file that shows it did.
        private static let source = """
            #define _GNU_SOURCE
            #include <fcntl.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <sys/syscall.h>
            #include <sys/time.h>
            #include <time.h>
            #include <unistd.h>

            static long step(void) {
                const char *path = getenv("STEPPED_CLOCK");
                char text[32] = "";
                int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
                if (file < 0) return 0;
                if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
                close(file);
                return atol(text);
            }

            int clock_gettime(clockid_t clock, struct timespec *result) {
                int status = (int)syscall(SYS_clock_gettime, clock, result);
                if (status == 0 && clock == CLOCK_REALTIME) result->tv_sec += step();
                return status;
            }

            int gettimeofday(struct timeval *restrict result, void *restrict zone) {
                struct timespec now;
                (void)zone;
                if (syscall(SYS_clock_gettime, CLOCK_REALTIME, &now) != 0) return -1;
                long seconds = step();
                if (seconds != 0) {
                    char path[4096];
                    snprintf(path, sizeof path, "%s.seen.%d", getenv("STEPPED_CLOCK"), (int)getpid());
                    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                    if (file >= 0) close(file);
                }
                result->tv_sec = now.tv_sec + seconds;
                result->tv_usec = now.tv_nsec / 1000;
                return 0;
            }

            time_t time(time_t *result) {
                struct timespec now;
                if (syscall(SYS_clock_gettime, CLOCK_REALTIME, &now) != 0) return (time_t)-1;
                now.tv_sec += step();
                if (result != NULL) *result = now.tv_sec;
                return now.tv_sec;
            }
            """
    }
#endif
