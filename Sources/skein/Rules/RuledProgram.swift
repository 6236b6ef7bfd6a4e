import Glibc
import SkeinCore

/// A program that will be started, or a process, as far as it decides which rules it gets.
struct RuledProgram: RuleSubject {
    /// The file name of its executable.
    let name: String
    let user: UInt32
    let root: PathText
    private let variable: (String) -> String?

    /// What `skein run` will start. A script is run by its interpreter, and gets that one's rules.
    init(_ program: Program, _ environment: Environment) {
        let file = program.interpreter()
        name = lastPart(realPath(file) ?? file)
        user = geteuid()
        root = PathText()
        variable = { environment[$0] }
    }

    /// A process, with the files that it sees: they may lie in a container.
    init(_ process: Process, _ environment: [String: String]) {
        let executable = Array((target(ofLink: "\(process.folder)/exe") ?? "").utf8)
        name = String(decoding: executable[executable.span.fileName], as: UTF8.self)
        let users = process.standing.users
        user = users.count > 1 ? users[1] : geteuid()
        root = PathText(string: "\(process.folder)/root")
        variable = { environment[$0] }
    }

    func withVariable(_ name: StaticString, _ body: (Span<UInt8>) -> Void) {
        guard let value = variable("\(name)"), !value.isEmpty else { return }
        body(Array(value.utf8).span)
    }

    func withProgramName(_ body: (Span<UInt8>) -> Void) { body(Array(name.utf8).span) }

    /// Where a rule stands, for people.
    func place(_ origin: Origin, _ key: RuleKey) -> String {
        // As the program itself sees it.
        let path = printable(String(origin.path(of: self).string.dropFirst(root.string.count)))
        return switch origin {
        case .environment: key == .off ? "SKEIN_OFF" : "--\(key.name) (\(key.variable))"
        case .machineFile, .userFile: path
        case .machineSection, .userSection: "\(path) [program]"
        }
    }
}

extension Rules {
    /// The rules of a program that will be started. Says what files are ignored; ends with 125 after
    /// what is wrong has been said.
    init(checked program: RuledProgram) throws {
        var mistakes = 0
        self.init(of: program) { fault in
            let path = fault.origin.path(of: program)
            // Somebody else's home, kept in HOME by who changed the user: no file of this user is there.
            if case .unreadable = fault.kind, fault.origin == .userFile, status(of: path.string) == nil { return }
            if !fault.isOfTrust { mistakes += 1 }
            if mistakes <= Rules.mistakesShown { complain(printable(fault.message(path).string)) }
        }
        if mistakes > Rules.mistakesShown { complain("and \(mistakes - Rules.mistakesShown) more mistakes") }
        if mistakes > 0 { throw failure("nothing is started before that is corrected", code: Exit.refused) }
    }

    private static let mistakesShown = 10

    /// What is in force, in the form of the files, each with the place where it stands.
    func text(for program: RuledProgram) -> String {
        let given = machine.given.filter(holdsOfMachine) + user.given.filter(holdsOfUser)
        let waiting = spin.origin.map { [(RuleKey.spin, "\(spin.policy)", $0)] } ?? []
        let lines = (given + waiting).map { key, value, origin in
            "\(key.name) = \(value)  # \(program.place(origin, key))"
        }
        let title = "# \(lines.isEmpty ? "no rules" : "rules") for \(printable(program.name))"
        return ([title] + lines).joined(separator: "\n")
    }
}

extension Rules {
    /// What the machine has not switched on, the user may have.
    private func holdsOfMachine(_ rule: RuleSet.Given) -> Bool {
        switch rule.key {
        case .strict: machine.strict.isOn || user.strict.origin == nil
        case .off: machine.off.isOn || user.off.origin == nil
        case .only, .not, .spin: true
        }
    }

    /// What the machine has ruled the user can't take back: who tries has ruled nothing.
    private func holdsOfUser(_ rule: RuleSet.Given) -> Bool {
        switch rule.key {
        case .strict: !machine.strict.isOn
        case .off: !machine.off.isOn
        case .only: machine.only.origin == nil || rule.value != "any"
        case .not: machine.not.origin == nil || rule.value != "none"
        case .spin: true
        }
    }
}

extension RuleSet {
    fileprivate typealias Given = (key: RuleKey, value: String, origin: Origin)

    /// The rules of this set that somebody has written, but for how to wait.
    fileprivate var given: [Given] {
        [
            only.origin.map { (.only, only.text, $0) },
            not.origin.map { (.not, not.text, $0) },
            strict.origin.map { (.strict, strict.isOn ? "yes" : "no", $0) },
            off.origin.map { (.off, off.isOn ? "yes" : "no", $0) },
        ].compactMap(\.self)
    }
}

extension TermList {
    fileprivate var text: String {
        count == 0 ? "none" : (0..<count).map { self[$0].text }.joined(separator: ", ")
    }
}

extension Term {
    fileprivate var text: String {
        let hasPorts = firstPort > 0
        let ports = firstPort == lastPort ? "\(firstPort)" : "\(firstPort)-\(lastPort)"
        if address.family == 0 { return hasPorts ? ports : "any" }
        let width = address.isIPv4 ? 32 : 128
        let host = address.hostText + (prefix < width ? "/\(prefix)" : "")
        if !hasPorts { return host }
        return address.isIPv4 ? "\(host):\(ports)" : "[\(host)]:\(ports)"
    }
}

extension FixedText {
    init(string: String) {
        self.init()
        for byte in string.utf8 { append(byte: byte) }
    }

    var string: String { unsafe withCString { unsafe String(cString: $0) } }
}
