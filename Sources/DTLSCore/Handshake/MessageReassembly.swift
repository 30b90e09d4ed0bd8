/// Puts the handshake's messages in clear together and into their order, so that OpenSSL sees whole ones only, each
/// once, each in its turn.
///
/// OpenSSL reserves what a message's first fragment claims, and believes the first that comes: one forged fragment with
/// a wrong length and the message never becomes whole, nor does the handshake. Here every fragment is kept with those
/// that it agrees with, whatever came before, and what is kept is bounded.
///
/// Nothing can tell a forged message from a genuine one when it is whole, fits, and comes first: DTLS 1.2 has no way to
/// (its Finished comes at the end), and the handshake ends then.
struct MessageReassembly {
    /// How far ahead of its turn a message may come. OpenSSL's own window.
    static let window: UInt16 = 10

    /// How many versions of one message are kept that contradict each other.
    static let maximumForks = 4

    /// How many fragments of a datagram are looked at. Honest ones have a handful.
    static let maximumFragments = 64

    /// With its header, no more than the smallest records that a peer may ask for (RFC 6066 §4): OpenSSL drops larger
    /// ones then.
    private static let maximumFragment = 500

    /// How many bytes may be kept.
    private let maximumBytes: Int

    /// The message whose turn it is.
    private var next: UInt16

    /// The first message of the peer's flight under way.
    private var firstOfFlight: UInt16

    private var partial: [PartialMessage] = []

    /// What is kept, in bytes.
    private(set) var cost = 0

    /// - Parameters:
    ///   - maximumBytes: How many bytes to keep, of all messages together.
    ///   - first: The number of the first message to expect.
    init(maximumBytes: Int, first: UInt16) {
        self.maximumBytes = maximumBytes
        next = first
        firstOfFlight = first
    }

    /// Takes note that this side has answered: OpenSSL has acted upon all messages so far.
    mutating func flightAnswered() {
        firstOfFlight = next
    }

    /// Takes note that nothing came of the flight under way in a whole wait.
    ///
    /// Its messages pass again when they come again, because OpenSSL may have dropped one unread; it knows those that
    /// it has acted upon. What nobody has added to in that wait is given up.
    mutating func waitExpired(counting drops: inout DtlsDrops) {
        next = firstOfFlight
        remove(counting: &drops) { $0.isFresh ? 0 : $0.fragmentCount }
        for index in partial.indices { partial[index].isFresh = false }
    }

    /// Forgets what is kept, at the end of the handshake: what nobody needed was forged.
    mutating func finish(counting drops: inout DtlsDrops) {
        remove(counting: &drops) { $0.fragmentCount }
    }

    /// Removes those of which `count` finds something to count.
    private mutating func remove(counting drops: inout DtlsDrops, _ count: (PartialMessage) -> Int) {
        partial.removeAll { message in
            let fragments = count(message)
            guard fragments > 0 else { return false }
            drops[.improperHandshakeMessage] += fragments
            cost -= message.cost
            return true
        }
    }

    /// Replaces the records that `slices` select of a datagram.
    ///
    /// - Returns: `true` when `slices` are of `arranged` now. `false` when every record may pass as it is: `slices`
    ///   have not changed and are of the datagram still.
    mutating func arrange(
        _ datagram: UnsafeRawBufferPointer,
        _ slices: inout RecordFilter.Slices,
        into arranged: inout [UInt8],
        counting drops: inout DtlsDrops
    ) -> Bool {
        if partial.isEmpty, let following = successor(of: datagram, slices) {
            next = following
            return false
        }
        arranged.removeAll(keepingCapacity: true)
        var output = Output(bytes: arranged)
        arranged = []
        var fragments = 0
        for slice in slices {
            var offset = slice.lowerBound
            while offset < slice.upperBound, let header = RecordHeader(datagram, at: offset) {
                let end = offset + RecordHeader.size + header.length
                if header.isClearHandshake {
                    var cursor = offset + RecordHeader.size
                    while let fragment = HandshakeFragment(datagram, at: cursor, end: end) {
                        fragments += 1
                        if fragments > Self.maximumFragments {
                            drops[.improperHandshakeMessage] += 1
                        } else {
                            take(fragment, in: datagram, version: datagram[offset + 2], &output, &drops)
                        }
                        cursor = fragment.body.upperBound
                    }
                } else {
                    // OpenSSL drops a ChangeCipherSpec that comes before what precedes it.
                    passKept(&output, &drops)
                    output.append(UnsafeRawBufferPointer(rebasing: datagram[offset..<end]))
                }
                offset = end
            }
        }
        // Last, so that a message which comes in its turn takes precedence over one that came before.
        passKept(&output, &drops)
        slices = output.slices
        arranged = output.bytes
        return true
    }

    /// The message after those of a datagram, if all of it are whole and in their turn; nil if not.
    private func successor(of datagram: UnsafeRawBufferPointer, _ slices: RecordFilter.Slices) -> UInt16? {
        var following = next
        var isInTurn = true
        for slice in slices {
            HandshakeFragment.forEach(in: UnsafeRawBufferPointer(rebasing: datagram[slice])) { fragment in
                if fragment.isWholeMessage, fragment.messageSequence == following {
                    following &+= 1
                } else {
                    isInTurn = false
                }
            }
        }
        return isInTurn ? following : nil
    }

    private mutating func take(
        _ fragment: HandshakeFragment,
        in datagram: UnsafeRawBufferPointer,
        version: UInt8,
        _ output: inout Output,
        _ drops: inout DtlsDrops
    ) {
        // A repetition of what was passed on.
        guard fragment.messageSequence >= next else { return }
        guard fragment.messageSequence - next < Self.window else {
            drops[.improperHandshakeMessage] += 1
            return
        }
        output.version = version
        if fragment.isWholeMessage, fragment.messageSequence == next {
            forgetRivals(of: fragment, in: datagram, &drops)
            output.append(fragment.type, next, UnsafeRawBufferPointer(rebasing: datagram[fragment.body]))
            next &+= 1
            return
        }
        keep(fragment, in: datagram, &drops)
        if fragment.messageSequence == next { passNext(&output, &drops) }
    }

    /// Adds a fragment to all that it agrees with, or else begins anew: which of two that differ is genuine shows when
    /// one is whole.
    private mutating func keep(
        _ fragment: HandshakeFragment,
        in datagram: UnsafeRawBufferPointer,
        _ drops: inout DtlsDrops
    ) {
        var isKept = false
        for index in partial.indices where partial[index].agrees(with: fragment, in: datagram) {
            isKept = true
            let before = partial[index].cost
            partial[index].add(fragment, in: datagram)
            cost += partial[index].cost - before
        }
        if !isKept {
            let message = PartialMessage(fragment, in: datagram)
            partial.append(message)
            cost += message.cost
            let forks = partial.indices.filter { partial[$0].messageSequence == fragment.messageSequence }
            if forks.count > Self.maximumForks { giveUp(forks, &drops) }
        }
        // What is farthest from its turn first.
        while cost > maximumBytes, let farthest = partial.map(\.messageSequence).max() {
            giveUp(partial.indices.filter { partial[$0].messageSequence == farthest }, &drops)
        }
    }

    /// Gives up that of which least has come.
    private mutating func giveUp(_ indices: [Int], _ drops: inout DtlsDrops) {
        guard let index = indices.min(by: { partial[$0].received < partial[$1].received }) else { return }
        let message = partial.remove(at: index)
        cost -= message.cost
        drops[.reassemblyLimit] += message.fragmentCount
    }

    /// Passes what is kept and whole, for as long as it is its turn.
    private mutating func passKept(_ output: inout Output, _ drops: inout DtlsDrops) {
        while passNext(&output, &drops) {}
    }

    /// Passes the next message if it is kept and whole.
    @discardableResult
    private mutating func passNext(_ output: inout Output, _ drops: inout DtlsDrops) -> Bool {
        guard let index = partial.lastIndex(where: { $0.messageSequence == next && $0.isWhole }) else { return false }
        let message = partial.remove(at: index)
        cost -= message.cost
        message.body.withUnsafeBytes { output.append(message.type, next, $0) }
        forget(&drops) { $0.type == message.type && $0.length == message.length }
        next &+= 1
        return true
    }

    private mutating func forgetRivals(
        of fragment: HandshakeFragment,
        in datagram: UnsafeRawBufferPointer,
        _ drops: inout DtlsDrops
    ) {
        guard !partial.isEmpty else { return }
        // What agrees with it are parts of the same, which the peer has cut into fragments before or the network
        // reordered.
        partial.removeAll { message in
            guard message.agrees(with: fragment, in: datagram) else { return false }
            cost -= message.cost
            return true
        }
        forget(&drops) { $0.isSame(as: fragment) }
    }

    /// Forgets what claims to be the message whose turn it was.
    ///
    /// - Parameter isFork: Whether some of the fragments may have been genuine, because they fit.
    private mutating func forget(_ drops: inout DtlsDrops, isFork: (PartialMessage) -> Bool) {
        let turn = next
        remove(counting: &drops) { message in
            guard message.messageSequence == turn else { return 0 }
            return isFork(message) ? 1 : message.fragmentCount
        }
    }

    /// Records for OpenSSL.
    private struct Output {
        var bytes: [UInt8]
        var slices: RecordFilter.Slices = []
        private var joins = false
        /// The second byte of the version in the records' headers.
        var version: UInt8 = 0xFD

        init(bytes: [UInt8]) {
            self.bytes = bytes
        }

        mutating func append(_ record: UnsafeRawBufferPointer) {
            let start = bytes.count
            bytes.append(contentsOf: record)
            endRecord(from: start)
            joins = record.first != ContentType.changeCipherSpec
        }

        /// Appends a message, in small records.
        mutating func append(_ type: UInt8, _ sequence: UInt16, _ body: UnsafeRawBufferPointer) {
            var offset = 0
            repeat {
                let count = Swift.min(body.count - offset, MessageReassembly.maximumFragment)
                let start = bytes.count
                // The record's sequence number is given where OpenSSL reads it.
                ClearRecord.appendFragment(
                    type,
                    messageLength: body.count,
                    messageSequence: sequence,
                    at: offset,
                    body[offset..<(offset + count)],
                    version: version,
                    to: &bytes
                )
                offset += count
                endRecord(from: start)
            } while offset < body.count
        }

        private mutating func endRecord(from start: Int) {
            RecordFilter.extend(&slices, with: start..<bytes.count, joins: joins)
            joins = true
        }
    }
}
