import DTLSCore
import Dispatch
import Synchronization

/// Has what OpenSSL keeps for busy associations freed when they are idle: looks every some seconds, for as long as
/// there is something.
enum IdleCiphers {
    private static let interval = DispatchTimeInterval.seconds(15)
    private static let isPlanned = Atomic(false)

    /// To be called now and then by whoever seals or opens records. Costs nothing that counts.
    static func noteActivity() {
        guard !isPlanned.load(ordering: .relaxed) else { return }
        if !isPlanned.exchange(true, ordering: .relaxed) { plan() }
    }

    private static func plan() {
        DispatchQueue.global(qos: .utility).asyncAfter(deadline: .now() + interval) {
            if DtlsEngineContext.releaseIdleCiphers() { return plan() }
            isPlanned.store(false, ordering: .relaxed)
            // Somebody may have come between, and left it to this.
            if DtlsEngineContext.releaseIdleCiphers() { noteActivity() }
        }
    }
}
