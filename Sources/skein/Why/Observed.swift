import SkeinCore

/// What can be told from outside of a process under Skein, or not.
struct Observed {
    let process: Process
    /// Whether the header is loaded into it; nil where we may not look.
    let hasHeader: Bool?
    private let environment: [String: String]
    private let subject: RuledProgram
    private let rules: Rules

    init(_ process: Process) {
        self.process = process
        let maps = (try? File.contents("\(process.folder)/maps"))?.text
        hasHeader = maps.flatMap { $0.isEmpty ? nil : $0.contains(Header.fileName) }
        let block = (try? File.contents("\(process.folder)/environ")) ?? Bytes([])
        var environment: [String: String] = [:]
        for entry in block.storage.split(separator: 0) {
            let text = String(decoding: entry, as: UTF8.self)
            guard let mark = text.firstIndex(of: "=") else { continue }
            environment[String(text[..<mark])] = String(text[text.index(after: mark)...])
        }
        self.environment = environment
        subject = RuledProgram(process, environment)
        // As the files are now; it read them when it started.
        rules = Rules(of: subject) { _ in }
    }

    /// Why the header isn't in it and what to do about that; nil when it is.
    var whyWithoutHeader: String? {
        guard hasHeader == false else { return nil }
        let path = "\(process.folder)/exe"
        if let file = try? File(path), let program = Executable(file),
            case .unreachable(let reason) = Reach.judge(program, name: lastPart(target(ofLink: path) ?? ""))
        {
            return "the program \(reason); it stays on plain TCP"
        }
        if Set(process.standing.users).count > 1 {
            return "it is a set-user-id program, and the loader ignores LD_PRELOAD for those; it stays on plain TCP"
        }
        if environment["LD_PRELOAD"]?.contains(Header.fileName) == true {
            return "the loader could not load the header that LD_PRELOAD names; see that its user can read the file"
        }
        return "it does not run under skein; start it with 'skein run \(printable(process.name))'"
    }

    /// Which of its rules keeps an address away from shared memory, and what to do; nil when none does.
    func whyExcluded(_ address: Address) -> String? {
        if let origin = rules.offOrigin {
            return "it is switched off by \(subject.place(origin, .off)); \(Observed.advice(origin))"
        }
        guard let exclusion = rules.exclusion(of: address) else { return nil }
        let verb = exclusion.key == .not ? "excludes" : "leaves out"
        let place = subject.place(exclusion.origin, exclusion.key)
        return "the rule '\(exclusion.key.name)' of \(place) \(verb) \(address.text); "
            + Observed.advice(exclusion.origin)
    }

    private static func advice(_ origin: Origin) -> String {
        origin == .environment ? "start it without that" : "change it there and start the program anew"
    }

    /// "process 12 (nginx)"
    var description: String { "process \(process.identifier) (\(printable(process.name)))" }
}
