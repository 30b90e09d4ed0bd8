public import DTLSCore

/// An association in which one side, the subject, is sent what the input says, at the point of the handshake that it
/// says, between what the genuine peer sends.
public struct EngineFuzzing {
    private let role: DtlsRole
    private let scenarios: [Scenario]
    // Long before what the engines' own clocks say would be late, and the same for all inputs.
    private let start = ContinuousClock.now

    public init(subject role: DtlsRole) throws {
        self.role = role
        scenarios = try Scenario.all()
    }

    public func run(_ input: FuzzInput) throws {
        var input = input
        let scenario = scenarios[Int(input.byte()) % scenarios.count]
        let stage = input.byte()
        var session = EngineSession(try scenario.pair(now: start), subject: role, now: start)
        session.reach(stage)
        var steps = 0
        while !input.isAtEnd, steps < 48 {
            session.perform(&input)
            steps += 1
        }
        session.checkEnd()
    }

    public func seeds() -> [(name: String, bytes: [UInt8])] {
        var seeds: [(String, [UInt8])] = []
        // Each scenario at each stage, with a little of each step.
        for scenario in 0..<UInt8(scenarios.count) {
            // All kinds of handshakes once, and of the layers below some.
            let isFirst = scenario < UInt8(Scenario.kinds)
            guard isFirst || scenario % 5 == 0 else { continue }
            for stage: UInt8 in [0, 1, 2, 3, 4, 6, 0x80] {
                var steps: [UInt8] = []
                for step in 0..<UInt8(EngineSession.steps) {
                    steps += [step, scenario &* 7 &+ step, stage &+ step, 1, 2, 3]
                }
                seeds.append(("all-\(scenario)-\(stage)", [scenario, stage] + steps))
            }
            for step in 0..<UInt8(EngineSession.steps) {
                seeds.append(("open-\(scenario)-\(step)", [scenario, 0x80, step, 5, 4, 3, 2, 1, step, 1, 1, 1, 1, 1]))
                seeds.append(("early-\(scenario)-\(step)", [scenario, 2, step, 5, 4, 3, 2, 1, 8, 8, step, 9, 1, 1, 1]))
            }
        }
        return seeds
    }
}
