import DTLSCore
import XCTest

/// What was dropped, as text.
final class DropsTests: XCTestCase {
    func testTheDescriptionHasWhatThereWas() {
        var drops = DtlsDrops()
        XCTAssertEqual("\(drops)", "none")
        drops[.unopenedRecord] = 12
        drops[.unknownPeer] = 1
        XCTAssertEqual("\(drops)", "unknownPeer: 1, unopenedRecord: 12")
        drops[.unknownPeer] = 0
        XCTAssertEqual("\(drops)", "unopenedRecord: 12")
        drops[.unopenedRecord] = 0
        XCTAssertEqual("\(drops)", "none")
    }
}
