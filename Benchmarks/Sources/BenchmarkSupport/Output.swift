import Glibc

/// What went wrong with a measurement.
package struct Failure: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// Prints a line at once, also where standard output is a pipe.
package func printLine(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
    var bytes = Array("\(text)\n".utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard count > 0 else { return }
        bytes = bytes.dropFirst(count)
    }
}

package func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/// Two digits behind the point below ten, none from a hundred on.
package func digits(_ value: Double) -> String {
    guard value < 99.95 else { return "\(Int(value.rounded()))" }
    let factor = value < 9.995 ? 100.0 : 10.0
    let scaled = Int((value * factor).rounded())
    let rest = "\(scaled % Int(factor))"
    let zeros = String(repeating: "0", count: (factor == 100 ? 2 : 1) - rest.count)
    return "\(scaled / Int(factor)).\(zeros)\(rest)"
}

/// A number of things, with commas between its thousands.
package func grouped(_ number: Int) -> String {
    guard number >= 1_000 else { return "\(number)" }
    let rest = "\(number % 1_000)"
    return "\(grouped(number / 1_000)),\(String(repeating: "0", count: 3 - rest.count))\(rest)"
}
