// Fails when a public symbol has no documentation: `swift .ci/check-documentation.swift MODULE.symbols.json...`
//
// The files are what the compiler extracts of a module (SymbolKit's format), public symbols only. One line a finding,
// `file:line: what is missing`; exit status 1 if there was any.
//
// What need not be there:
// * a comment on what fulfils a protocol's requirement and says nothing of its own: the compiler hands the
//   requirement's comment on to it, and readers see that one (`hash(into:)`, `init(rawValue:)`, witnesses of our own
//   protocols). Where the requirement has none either, it is missing;
// * a comment on members that the module got and did not write, which extensions of a protocol synthesize
//   (`!=`, the operations of AsyncSequence): their documentation is where they were written.

import Foundation

struct SymbolGraph: Decodable {
    struct Module: Decodable { let name: String }
    struct Symbol: Decodable {
        struct Identifier: Decodable { let precise: String }
        struct Kind: Decodable { let displayName: String }
        struct Comment: Decodable {
            struct Line: Decodable { let text: String }
            let lines: [Line]
        }
        struct Location: Decodable {
            struct Position: Decodable { let line: Int }
            let uri: String
            let position: Position
        }
        let identifier: Identifier
        let kind: Kind
        let pathComponents: [String]
        let docComment: Comment?
        let location: Location?
    }
    let module: Module
    let symbols: [Symbol]
}

func complain(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
}

let here = "file://" + FileManager.default.currentDirectoryPath + "/"
var failures = 0
for path in CommandLine.arguments.dropFirst() {
    let graph = try JSONDecoder().decode(SymbolGraph.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    let own = graph.symbols.filter { !$0.identifier.precise.contains("::SYNTHESIZED::") }
    let missing = own.filter { symbol in
        symbol.docComment?.lines.contains { !$0.text.allSatisfy(\.isWhitespace) } != true
    }
    for symbol in missing {
        let place = symbol.location.map { location in
            let file = location.uri.hasPrefix(here) ? String(location.uri.dropFirst(here.count)) : location.uri
            return "\(file):\(location.position.line + 1)"
        }
        let name = ([graph.module.name] + symbol.pathComponents).joined(separator: ".")
        complain("\(place ?? path): \(symbol.kind.displayName.lowercased()) \(name) has no documentation comment")
    }
    failures += missing.count
    // A file of another format must not pass for a module without faults.
    if own.isEmpty {
        complain("\(path): no public symbol in it")
        failures += 1
    }
    print("\(graph.module.name): \(own.count - missing.count) of \(own.count) public symbols are documented")
}
exit(failures == 0 && CommandLine.arguments.count > 1 ? 0 : 1)
