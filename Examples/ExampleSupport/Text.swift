/// Bytes from outside as text that is safe to print: what is not UTF-8, and every control character (also line
/// separators and the marks that reverse the direction of writing), becomes `\xNN`.
public func escapedForTerminal(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    var parser = Unicode.UTF8.ForwardParser()
    var iterator = Array(bytes).makeIterator()
    var remaining = Array(bytes)[...]
    while true {
        switch parser.parseScalar(from: &iterator) {
        case .valid(let encoded):
            let piece = remaining.prefix(encoded.count)
            let scalar = Unicode.UTF8.decode(encoded)
            if isPrintable(scalar) {
                text.unicodeScalars.append(scalar)
            } else {
                text += piece.map(escape).joined()
            }
            remaining = remaining.dropFirst(encoded.count)
        case .error(let length):
            text += remaining.prefix(length).map(escape).joined()
            remaining = remaining.dropFirst(length)
        case .emptyInput:
            return text
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
public func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { twoDigits($0) }.joined()
}

/// The bytes that pairs of hexadecimal digits stand for, or nil where the text is anything else.
public func bytes(hexadecimal text: some StringProtocol) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count.isMultiple(of: 2) else { return nil }
    var bytes: [UInt8] = []
    for start in stride(from: 0, to: digits.count, by: 2) {
        guard let high = digitValue(digits[start]), let low = digitValue(digits[start + 1]) else { return nil }
        bytes.append(high << 4 | low)
    }
    return bytes
}

/// A duration in milliseconds with one decimal, such as `3.2 ms`.
public func milliseconds(_ duration: Duration) -> String {
    let tenths = Int64((duration / .microseconds(100)).rounded())
    return "\(tenths / 10).\(tenths % 10) ms"
}

/// A number with its noun: `1 echo`, `2 echoes`.
public func counted(_ number: Int, _ singular: String, plural: String) -> String {
    "\(number) \(number == 1 ? singular : plural)"
}

private func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .control, .lineSeparator, .paragraphSeparator: false
    default: !scalar.properties.isBidiControl
    }
}

private func escape(_ byte: UInt8) -> String {
    "\\x" + twoDigits(byte).uppercased()
}

private func twoDigits(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return digits.count == 1 ? "0" + digits : digits
}

private func digitValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
}
