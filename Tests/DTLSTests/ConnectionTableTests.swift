import XCTest

@testable import DTLS

final class ConnectionTableTests: XCTestCase {
    private final class Value {}

    /// What was found last must not be found again once it is not the only one at its address any more.
    func testTheOnlyOneAtAnAddressIsForgottenWithEachChange() throws {
        let here = try DtlsAddress(ipAddress: "192.0.2.1", port: 5684)
        let there = try DtlsAddress(ipAddress: "192.0.2.2", port: 5684)
        var table = ConnectionTable<Value>()
        let first = Value()
        let second = Value()

        table.insert(first, for: here)
        XCTAssertIdentical(table.onlyOne(at: here), first)
        XCTAssertIdentical(table.onlyOne(at: here), first)
        XCTAssertNil(table.onlyOne(at: there))

        XCTAssertNil(table.setCandidate(second, for: here))
        XCTAssertNil(table.onlyOne(at: here), "a candidate is to see it, too")
        XCTAssertIdentical(table.promote(second, for: here), first)
        XCTAssertIdentical(table.onlyOne(at: here), second)

        table.move(second, from: here, to: there)
        XCTAssertNil(table.onlyOne(at: here), "it has moved")
        XCTAssertIdentical(table.onlyOne(at: there), second)

        table.insert(first, for: there)
        XCTAssertIdentical(table.onlyOne(at: there), first, "another one is there now")

        table.remove(first, for: there)
        XCTAssertNil(table.onlyOne(at: there), "it is gone")
    }

    /// IPv4 and IPv6 addresses that have the same lower half are different peers.
    func testAddressesThatDifferInOnePartAreToldApart() throws {
        let texts = ["192.0.2.1", "2001:db8::1", "2001:db8:1::1", "::ffff:0:c000:201", "fe80::1", "::1"]
        var table = ConnectionTable<Value>()
        var values: [(DtlsAddress, Value)] = []
        for text in texts {
            for port: UInt16 in [1, 2, 65_535] {
                let address = try DtlsAddress(ipAddress: text, port: port)
                values.append((address, Value()))
                table.insert(values[values.count - 1].1, for: address)
            }
        }
        for (address, value) in values { XCTAssertIdentical(table.onlyOne(at: address), value, "\(address)") }
    }
}
