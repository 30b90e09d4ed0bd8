/// Whether to look for more datagrams before waiting for them, after all that there were have been handled.
///
/// To look in vain costs less than half of what it costs to be woken again. Whether it would be in vain depends on the
/// peers, so it is learnt: one on the same processor has answered before this thread goes on, one far away never has.
struct SecondLook {
    /// How likely it is to find something, in 256ths, as the last looks were.
    private var chance = 0
    /// How many were not taken since the last that was in vain.
    private var foregone = 0

    /// From which chance on it is worth it.
    private static let worthwhileChance = 102
    /// After how many that were not taken one is tried again.
    private static let patience = 64

    /// Whether to look now. If so, ``found(_:)`` is to be told.
    mutating func isWorthwhile() -> Bool {
        if chance >= Self.worthwhileChance { return true }
        foregone += 1
        return foregone >= Self.patience
    }

    /// What a look has found.
    mutating func found(_ something: Bool) {
        chance += ((something ? 256 : 0) - chance) / 8
        if !something { foregone = 0 }
    }
}
