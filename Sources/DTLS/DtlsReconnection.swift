/// What a client does when its server answers nothing any more: it may have been restarted, and know nothing of the
/// association.
///
/// DTLS has no sign for that: the server drops what it cannot open, and whatever came in clear could be forged. So a
/// client can only notice the silence, and ask anew.
public struct DtlsReconnection: Sendable, Hashable {
    /// How long the silence may be; `nil` when there is nothing to be done about it.
    let silence: Duration?

    /// The association stays as it is. The default.
    public static let never = DtlsReconnection(silence: nil)

    /// When a payload was sent and none has come since for so long, a handshake begins anew from the same address,
    /// which resumes the session where the server still can. The old association serves meanwhile; when a payload comes
    /// after all, it stays.
    ///
    /// When the handshake is finished the connection goes on under the new association: ``DtlsConnection/negotiated``
    /// and exported keys are the new one's, and ``/DTLSCore/DtlsStatistics/reconnections`` counts it. The context's
    /// questions (a pre-shared key, a verdict over certificates) are asked again. When nobody answers the handshake, or
    /// it fails three times in a row, the connection ends with its error. What was sent into the silence is lost; this
    /// is no retransmission.
    ///
    /// A connection that has ended, as by the server's close_notify, is not made anew: connect again. To resume the
    /// session then, take ``DtlsConnection/session`` while the connection is open, as it is `nil` after the end.
    ///
    /// Only for protocols in which the server answers: to a server that merely listens, every silence looks like a
    /// restart.
    ///
    /// - Parameter silence: One second to one day, or connects throw
    ///   ``/DTLSCore/DtlsError/Code-swift.struct/invalidConfiguration``. Default: 30 seconds.
    public static func whenSilent(for silence: Duration = .seconds(30)) -> DtlsReconnection {
        DtlsReconnection(silence: silence)
    }

    func validate() throws(DtlsError) {
        guard let silence, !(Duration.seconds(1)...Duration.seconds(86_400)).contains(silence) else { return }
        let message = "a silence of \(silence) is outside of one second to one day"
        throw DtlsError(.invalidConfiguration, phase: .handshake, message)
    }
}
