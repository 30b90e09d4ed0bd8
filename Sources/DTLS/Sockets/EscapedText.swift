extension String {
    /// Safe to print: control and direction characters replaced, long text cut.
    var escapedForMessages: String {
        var result = String.UnicodeScalarView()
        for scalar in unicodeScalars.prefix(255) {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: result.append("\u{FFFD}")
            default: result.append(scalar)
            }
        }
        return String(result) + (unicodeScalars.count > 255 ? "…" : "")
    }
}
