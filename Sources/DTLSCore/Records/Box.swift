/// A value behind a reference, for what is rarely there and large.
final class Box<Value> {
    let value: Value

    init(_ value: Value) { self.value = value }
}
