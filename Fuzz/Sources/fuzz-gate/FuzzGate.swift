import DTLSCore
import FuzzSupport

/// Datagrams of up to eight sources at the gate, some of which bring the cookies that they were given.
struct FuzzGate: FuzzTarget {
    private let start = ContinuousClock.now

    init() {}

    func run(_ input: FuzzInput) throws {
        var input = input
        // Few, because filling the default of 128 would take most of a run's time.
        let limit = Int(input.byte())
        var strangers = try Strangers(limit: 1 + limit % 32, now: start)
        var steps = 0
        var hasFlooded = false
        while !input.isAtEnd, steps < 64 {
            steps += 1
            let step = input.byte()
            let source = Int(step & 7)
            switch step >> 3 & 15 {
            case 0, 1: strangers.send(input.counted(), from: source)
            case 2: strangers.returnCookie(source, of: source)
            case 3: strangers.returnCookie(source, of: Int(input.byte() & 7))
            case 4: strangers.returnCookie(source, of: source, flipping: Int(input.byte()))
            case 5: strangers.sendHello(&input, from: source)
            case 6: strangers.sendFragments(&input, from: source, withCookie: false)
            case 7: strangers.sendFragments(&input, from: source, withCookie: true)
            case 8: strangers.now += .milliseconds(input.uint16() * 4)
            case 9 where !hasFlooded:
                // Once, or there would be little else.
                hasFlooded = true
                strangers.flood(input.byte())
            case 10: strangers.changeLast(&input, from: source)
            default: strangers.repeatLast(from: source)
            }
        }
    }

    func seeds() -> [(name: String, bytes: [UInt8])] {
        let hello = Strangers.hello(sessionID: [], suites: [0xC0, 0x2B, 0, 0xA8], extensions: [0, 23, 0, 0])
        let whole = Wire.fragment(1, of: hello, 0..<hello.count, messageSequence: 0, sequence: 0)
        let half = Wire.fragment(1, of: hello, 0..<hello.count / 2 + 15, messageSequence: 0, sequence: 0)
        return [
            ("whole", [3, 0 << 3] + FuzzInput.counted(whole) + [2 << 3]),
            ("other-source", [3, 0 << 3] + FuzzInput.counted(whole) + [3 << 3 | 1, 0]),
            ("flipped", [3, 0 << 3] + FuzzInput.counted(whole) + [4 << 3, 9, 2 << 3]),
            ("half", [3, 0 << 3] + FuzzInput.counted(half) + [2 << 3, 11 << 3]),
            ("built", [3, 5 << 3, 4, 3, 1, 2, 3, 4, 2 << 3]),
            ("fragments", [3, 6 << 3, 3, 40, 7, 200, 0, 7 << 3, 3, 40, 7, 200, 0, 7 << 3, 1, 80, 1, 80]),
            (
                "rest",
                [
                    3, 6 << 3, 0, 62, 7 << 3, 0, 124, 7 << 3, 0x81, 0, 124, 248, 200, 8 << 3, 5, 0, 7 << 3, 0x80, 1, 0,
                    250,
                ]
            ),
            ("late", [3, 0 << 3] + FuzzInput.counted(whole) + [8 << 3, 0xFF, 0xFF, 2 << 3]),
            ("flood", [31, 9 << 3, 140, 8 << 3, 1, 0, 9 << 3, 159]),
            ("changed", [3, 0 << 3] + FuzzInput.counted(whole) + [10 << 3, 14, 7, 2 << 3]),
        ]
    }
}

/// What libFuzzer calls first.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<CInt>?, _ arguments: UnsafeMutableRawPointer?) -> CInt {
    FuzzGate.prepare()
    return 0
}
