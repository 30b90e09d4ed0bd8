#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Zeroed memory of whole pages, of which those cost nothing that nobody has written to.
///
/// From `mmap` rather than `malloc`, which may give out again what was written to before. Buffers are as large as the
/// largest datagram, and most datagrams are small.
struct PageBuffer: ~Copyable {
    /// Valid for as long as the value lives.
    let bytes: UnsafeMutableRawBufferPointer
    private let isMapped: Bool

    init(byteCount: Int) {
        let flags = MAP_PRIVATE | MAP_ANON
        let start = mmap(nil, byteCount, PROT_READ | PROT_WRITE, flags, -1, 0)
        // MAP_FAILED, which Swift does not import everywhere.
        isMapped = start != nil && start != UnsafeMutableRawPointer(bitPattern: -1)
        if isMapped {
            bytes = UnsafeMutableRawBufferPointer(start: start, count: byteCount)
            #if os(Linux)
                // A byte is to cost a page, not two megabytes, where the system would make huge ones of all memory.
                _ = madvise(start, byteCount, 14)  // MADV_NOHUGEPAGE
            #endif
        } else {
            bytes = .allocate(byteCount: byteCount, alignment: 64)
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    deinit {
        if isMapped { munmap(bytes.baseAddress, bytes.count) } else { bytes.deallocate() }
    }
}
