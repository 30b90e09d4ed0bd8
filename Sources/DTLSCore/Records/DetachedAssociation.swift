import DTLSPrimitives

/// An association after its handshake, without OpenSSL's `SSL`: keys, numbers, and what has not been handed out yet.
///
/// What each input and output means stands at ``DtlsEngine``, which hands them on.
final class DetachedAssociation: AssociationLife {
    private let context: DtlsEngineContext
    // What is `unchecked` is not checked at run time for accesses that overlap, which takes as long as to read a
    // record's header does, a few times for each datagram. There can be none: an engine is of one thread at a time, and
    // nothing that is called while one of these is changed knows this object. The queues are checked: they are drained
    // into what the caller gives.
    @exclusivity(unchecked) var records: DetachedRecords
    @exclusivity(unchecked) var counted = DetachedCounts()
    let settled: DtlsNegotiated
    private(set) var closeReason: DtlsCloseReason?
    private(set) var mtu: Int
    let maximumFragment: Int
    private(set) var maximumPayloadSize = 0
    private let sessionBox: Box<DtlsSession>?
    var session: DtlsSession? { sessionBox?.value }
    /// This side's last flight of the handshake, for as long as the peer may ask for it again.
    private(set) var flight: FinalFlight?
    private(set) var outbound = DatagramQueue()
    private(set) var inbound = DatagramQueue()
    /// What a response to one of the last challenges must hold; empty when it has come, or there was none.
    private var pathCookies: [[UInt8]] = []
    private static let maximumCookies = 4
    /// Events of the handshake that nobody has taken.
    @exclusivity(unchecked) private var earlier: [DtlsEvent] = []
    /// Events of this life, of which there are two kinds, in this order.
    private var hasData = false
    private var hasEnded = false
    /// The last one.
    private var alertSent: DtlsAlert?
    private var flowBox: Box<Flow>?
    var flow: Flow? {
        get { flowBox?.value }
        set { flowBox = newValue.map { Box($0) } }
    }

    init(
        context: DtlsEngineContext,
        records: consuming DetachedRecords,
        settled: DtlsNegotiated,
        mtu: Int,
        maximumFragment: Int,
        session: DtlsSession?,
        flight: FinalFlight?
    ) {
        self.context = context
        self.records = records
        self.settled = settled
        self.mtu = mtu
        self.maximumFragment = maximumFragment
        sessionBox = session.map { Box($0) }
        self.flight = flight
        measurePayload()
    }

    /// - Parameter attached: What it was before. It is of no more use afterwards.
    convenience init?(_ graduation: Graduation, of attached: AttachedAssociation, now: Moment) {
        guard let records = graduation.takeRecords(), let negotiated = attached.negotiated else { return nil }
        var flight: FinalFlight?
        if var datagrams = graduation.takeFlight() {
            flight = FinalFlight(
                datagrams,
                openedBy: records,
                nextClearNumber: graduation.nextClearNumber,
                attempts: attached.context.configuration.retransmission.maximumAttempts,
                now: now
            )
            datagrams.removeAll()
            attached.context.queues.strip(&datagrams)
        }
        self.init(
            context: attached.context,
            records: records,
            settled: negotiated,
            mtu: attached.mtu,
            maximumFragment: graduation.maximumContent,
            session: graduation.session,
            flight: flight
        )
        outbound = graduation.outbound
        earlier = Array(attached.events)
        counted = DetachedCounts(attached.statistics)
        flow = attached.flow
    }

    /// Takes what came before this object was there.
    func receiveEarly(_ graduation: Graduation) {
        for (contentType, content) in graduation.opened where closeReason == nil {
            content.withUnsafeBytes { inbound.append($0) }
            take(contentType, content.count)
        }
        for datagram in graduation.early { datagram.withUnsafeBytes { _ = open($0) } }
    }

    // MARK: Inputs

    func receive(_ datagram: UnsafeRawBufferPointer, now: Moment) -> DtlsReceipt {
        counted.datagramsReceived += 1
        counted.bytesReceived += datagram.count
        guard closeReason == nil else { return .unknown }
        handleTimeout(now: now)
        context.queues.equip(&inbound)
        let receipt = open(datagram)
        context.queues.strip(&inbound)
        capture(received: datagram)
        return receipt
    }

    func send(_ payload: UnsafeRawBufferPointer) throws(DtlsError) {
        try requireSendable(payload)
        context.queues.equip(&outbound)
        try finishSending(records.seal(ContentType.applicationData, payload, into: &outbound))
    }

    func requireSendable(_ payload: UnsafeRawBufferPointer) throws(DtlsError) {
        try require(payload, configuredMTU: context.configuration.mtu)
    }

    /// Counts a payload, or ends the association because there can be no more.
    func finishSending(_ sealing: DetachedRecords.Sealing) throws(DtlsError) {
        switch sealing {
        case .sealed:
            counted.payloadsSent += 1
        case .exhausted:
            throw endByUsedUpKeys()
        case .failed:
            let error = DtlsError(.connectionClosed, phase: .established, "OpenSSL could not seal a payload")
            end(.failed(error))
            throw error
        }
    }

    func recognizes(_ datagram: UnsafeRawBufferPointer) -> Bool { records.recognizes(datagram) }

    func handleTimeout(now: Moment) {
        if let expiresAt = flight?.expiresAt, now >= expiresAt { flight = nil }
    }

    func close(as reason: DtlsCloseReason) {
        guard closeReason == nil else { return }
        sendAlert(DtlsAlert(level: .warning, code: .closeNotify))
        end(reason)
    }

    func abandon() { abandon(as: .replacedByPeer) }

    func abandon(as reason: DtlsCloseReason) { end(reason) }

    func lowerMTU(to bytes: Int) {
        let lower = Swift.max(bytes, DtlsEngine.minimumMTU)
        guard lower < mtu, closeReason == nil else { return }
        mtu = lower
        measurePayload()
    }

    private func measurePayload() {
        maximumPayloadSize = Swift.min(maximumFragment, records.maximumContent(ofDatagram: mtu))
    }

    // MARK: Outputs

    func drainOutboundBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        counted.datagramsSent += outbound.count
        counted.bytesSent += outbound.byteCount
        defer { context.queues.strip(&outbound) }
        outbound.drain { datagram in
            capture(sent: datagram)
            body(datagram)
        }
    }

    func capture(sent datagram: UnsafeRawBufferPointer) {
        context.configuration.capture?.record(datagram, from: name(.own), to: name(.peer))
    }

    func capture(received datagram: UnsafeRawBufferPointer) {
        context.configuration.capture?.record(datagram, from: name(.peer), to: name(.own))
    }

    /// Whether ``nextEvent()`` has something.
    var hasEvents: Bool { hasData || hasEnded || !earlier.isEmpty }

    func nextEvent() -> DtlsEvent? {
        if !earlier.isEmpty {
            let event = earlier.removeFirst()
            // Nothing comes to it any more.
            if earlier.isEmpty { earlier = [] }
            return event
        }
        if hasData {
            hasData = false
            return .applicationData
        }
        guard hasEnded, let closeReason else { return nil }
        hasEnded = false
        return .closed(closeReason)
    }

    func drainApplicationDataBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        inbound.drain(body)
        context.queues.strip(&inbound)
    }

    var nextDeadline: Moment? { nil }
    var housekeepingDeadline: Moment? { flight?.expiresAt }
    var isPathChallenged: Bool { !pathCookies.isEmpty }
    var isOpen: Bool { closeReason == nil }
    var statistics: DtlsStatistics { counted.statistics }
    var negotiated: DtlsNegotiated? { settled }

    var roundTrip: Duration? {
        get { counted.roundTrip }
        // Nothing is sent again any more.
        set {}
    }

    private enum Side { case own, peer }

    private func name(_ side: Side) -> DtlsEndpointName {
        switch side {
        case .own: flow?.own ?? .placeholder(context.role)
        case .peer: flow?.peer ?? .placeholder(context.role.other)
        }
    }

    func exportKeyingMaterial(
        label: String,
        context bound: [UInt8]?,
        count: Int
    ) throws(DtlsError) -> DtlsSecretBytes {
        try requireExportable(count, label, bound)
        guard !RecordKeys.reservedLabels.contains(where: { label.hasPrefix($0) }),
            let secret = records.keys.export(label: label, context: bound, count: count)
        else { throw cannotExport(label) }
        return secret
    }

    // MARK: Records of the peer

    /// Opens what is in a datagram, which may be several records.
    private func open(_ datagram: UnsafeRawBufferPointer) -> DtlsReceipt {
        var receipt = DtlsReceipt.unknown
        var offset = 0
        if datagram.isEmpty { counted.drops[.malformedRecord] += 1 }
        while offset < datagram.count, closeReason == nil {
            guard
                let header = RecordHeader(datagram, at: offset, expectedIDLength: records.connectionIDs.own.count)
            else {
                counted.drops[.malformedRecord] += 1
                break
            }
            if let reason = objection(to: header, at: offset, in: datagram) {
                counted.drops[reason] += 1
            } else {
                receipt = Swift.max(receipt, open(header, at: offset, in: datagram))
            }
            offset += header.size + header.length
        }
        return receipt
    }

    /// Why a record is not even tried; `nil` when it is.
    private func objection(
        to header: RecordHeader,
        at offset: Int,
        in datagram: UnsafeRawBufferPointer
    ) -> DtlsDropReason? {
        if header.epoch == 0 { return .clearRecordWhenOpen }
        guard records.isProper(header, at: offset, in: datagram) else { return .improperSealedRecord }
        return header.length < records.minimumLength ? .undersizedRecord : nil
    }

    private func open(
        _ header: RecordHeader,
        at offset: Int,
        in datagram: UnsafeRawBufferPointer
    ) -> DtlsReceipt {
        var opening = DetachedRecords.Opening.improper
        let isKept = inbound.append(capacity: header.length) { buffer in
            opening = records.open(header, at: offset, in: datagram, into: buffer)
            guard case .opened(_, let count, _) = opening else { return nil }
            return count
        }
        guard isKept, case .opened(let contentType, let count, let isNewest) = opening else {
            noteUnopened()
            return .unknown
        }
        take(contentType, count)
        return isNewest ? .newest : .authentic
    }

    /// Counts a record that is not authentic, not new, or not allowed.
    func noteUnopened() {
        counted.drops[.unopenedRecord] += 1
        if records.hasSeenTooManyForgeries { _ = endByUsedUpKeys() }
    }

    /// Does what an authentic record says, whose content is the last of what came in.
    private func take(_ contentType: UInt8, _ count: Int) {
        if contentType == ContentType.applicationData, count > 0 {
            counted.payloadsReceived += 1
            hasData = true
            return
        }
        takeOther(contentType, inbound.removeLast())
    }

    /// Does what an authentic record says that brings no payload.
    func takeOther(_ contentType: UInt8, _ content: [UInt8]) {
        switch contentType {
        case ContentType.alert where content.count == 2:
            takeAlert(DtlsAlert(packed: Int32(content[0]) << 8 | Int32(content[1])))
        case ContentType.handshake where !content.isEmpty:
            takeHandshake(content)
        case ContentType.returnRoutabilityCheck where records.connectionIDs.checksPaths:
            takePathCheck(content)
        case ContentType.applicationData:
            // An empty one is read and thrown away.
            break
        default:
            counted.drops[.unopenedRecord] += 1
        }
    }

    // MARK: Return routability checks (RFC 9853)

    var checksPaths: Bool { records.connectionIDs.checksPaths }

    func challengePath(again: Bool) -> Bool {
        guard isOpen, checksPaths, let cookie = try? RandomBytes.array(PathCheck.cookieLength) else { return false }
        // The answer to one before may still be on its way.
        if !again { pathCookies = [] }
        pathCookies = pathCookies.suffix(Self.maximumCookies - 1) + [cookie]
        return send(PathCheck(.challenge, cookie))
    }

    private func send(_ check: PathCheck) -> Bool {
        context.queues.equip(&outbound)
        let sealing = check.content.withUnsafeBytes {
            records.seal(ContentType.returnRoutabilityCheck, $0, into: &outbound)
        }
        guard case .sealed = sealing else { return false }
        return true
    }

    private func takePathCheck(_ content: [UInt8]) {
        guard let check = PathCheck(content) else {
            counted.drops[.unopenedRecord] += 1
            return
        }
        switch check.kind {
        case .challenge:
            _ = send(PathCheck(.response, check.cookie))
        case .response where pathCookies.contains(check.cookie):
            pathCookies = []
        case .response, .drop:
            counted.drops[.unopenedRecord] += 1
        }
    }

    private func takeAlert(_ alert: DtlsAlert) {
        if alert.code == .closeNotify {
            sendAlert(DtlsAlert(level: .warning, code: .closeNotify))
            return end(.closedByPeer)
        }
        guard alert.level == .fatal else {
            // Without consequence.
            counted.drops[.unopenedRecord] += 1
            return
        }
        end(
            .failed(
                DtlsError(
                    .connectionClosed,
                    phase: .established,
                    "the peer ended the association with an alert",
                    alertSent: alertSent,
                    alertReceived: alert
                )
            )
        )
    }

    private func takeHandshake(_ message: [UInt8]) {
        counted.drops[.unopenedRecord] += 1
        switch (message[0], context.role) {
        case (HandshakeType.finished, _):
            repeatFlight()
        case (HandshakeType.helloRequest, .client), (HandshakeType.clientHello, .server):
            // Renegotiation (RFC 5246 §7.2.2). The peer decides whether it can live without.
            sendAlert(DtlsAlert(level: .warning, code: .noRenegotiation))
        default:
            break
        }
    }

    /// Sends the last flight again, because the peer has sent its Finished again.
    private func repeatFlight() {
        if flight?.send(sealedBy: &records, mtu: mtu, into: &outbound) == true { counted.retransmissions += 1 }
    }

    // MARK: Ends

    private func sendAlert(_ alert: DtlsAlert) {
        alertSent = alert
        let content = [alert.level.rawValue, alert.code.rawValue]
        _ = content.withUnsafeBytes { records.seal(ContentType.alert, $0, into: &outbound) }
    }

    private func endByUsedUpKeys() -> DtlsError {
        let alert = DtlsAlert(level: .warning, code: .closeNotify)
        let error = DtlsError(
            .keysUsedUp,
            phase: .established,
            "the association has sealed, or refused, as many records as its keys are good for",
            hint: "connect anew: new keys come with a new handshake",
            alertSent: alert
        )
        if closeReason == nil { sendAlert(alert) }
        end(.failed(error))
        return error
    }

    private func end(_ reason: DtlsCloseReason) {
        guard closeReason == nil else { return }
        closeReason = reason
        flight = nil
        hasEnded = true
    }
}
