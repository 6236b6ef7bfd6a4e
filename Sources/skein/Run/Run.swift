import ArgumentParser
import Glibc
import struct SkeinCore.Rules

/// `skein run`: starts an unmodified program with the translating header, in place of itself.
struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a program with its TCP connections on shared memory where the other end allows it.",
        usage: "skein run [<options>] [--] <program> [<argument> ...]",
        discussion: """
            The program replaces this command: its process identifier, its descriptors and its exit code are \
            its own. Ends with 127 when the program isn't found, 126 when it isn't executable, and 125 when it \
            isn't started: a rule or the header can't be read, the log can't be written, or the program can't \
            have the header and --strict was given.
            """)

    /// When a waiting end looks at the ring again before it sleeps.
    enum Spin: String, ExpressibleByArgument, CaseIterable { case off, adaptive, fixed }

    @Option(
        help: ArgumentHelp("Use shared memory for these ports and addresses alone.", valueName: "terms"),
        transform: Terms.init)
    var only: Terms?

    @Option(
        help: ArgumentHelp("Never use shared memory for these ports and addresses.", valueName: "terms"),
        transform: Terms.init)
    var not: Terms?

    @Option(help: "How to wait for bytes: \(Spin.allCases.map(\.rawValue).joined(separator: ", ")).")
    var spin: Spin?

    @Flag(help: "Fail instead of falling back to TCP.")
    var strict = false

    @Option(help: ArgumentHelp("Append to this file why connections fell back to TCP.", valueName: "file"))
    var log: String?

    @Flag(help: "Print the rules that the program would get and where they stand; start nothing.")
    var check = false

    @Argument(
        parsing: .captureForPassthrough, help: ArgumentHelp("The program and its arguments.", valueName: "program"))
    var words: [String] = []

    mutating func validate() throws {
        // Passed through with all the rest, since what follows the program belongs to the program.
        if words.first == "--" {
            words.removeFirst()
        } else if let first = words.first, first.hasPrefix("-") {
            if first == "--help" || first == "-h" { throw CleanExit.helpRequest(self) }
            throw ValidationError("Unknown option '\(first)' (put '--' before a program whose name begins with '-')")
        }
        if words.isEmpty { throw ValidationError("Name the program to run, as in 'skein run curl http://localhost'") }
    }

    func run() throws {
        let program = try find()
        let plain = Environment()
        var environment = plain
        setOptions(&environment)
        let subject = RuledProgram(program, environment)
        let rules = try Rules(checked: subject)
        if check { return try output(rules.text(for: subject)) }
        try checkLog()
        if try !prepare(program, &environment, rules, subject) { environment = withoutHeader(plain) }
        let error = replaceProcess(
            path: program.path, argumentCount: words.count, environment, throughShell: program.isText)
        throw failure(Run.explain(error, program), code: error.code == ENOENT ? Exit.notFound : Exit.notExecutable)
    }

    /// The header can't say that the file can't be written: it has nobody to say it to.
    private func checkLog() throws {
        guard let log else { return }
        let file = unsafe open(log, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0o600)
        if file < 0 {
            let reason = SystemError.last.text
            throw failure("\(log) (--log) can't be written: \(reason); name another file", code: Exit.refused)
        }
        _ = close(file)
    }

    private func find() throws -> Program {
        do {
            return try Program(words[0])
        } catch .notFound(let message) {
            throw failure(message, code: Exit.notFound)
        } catch .notExecutable(let message) {
            throw failure(message, code: Exit.notExecutable)
        }
    }

    /// Puts the header into the environment. False when this program can't have it and runs plainly.
    private func prepare(
        _ program: Program, _ environment: inout Environment, _ rules: Rules, _ subject: RuledProgram
    ) throws -> Bool {
        let strictness = rules.strictOrigin.map { subject.place($0, .strict) }
        func stayPlain(_ fault: String, advice: String = "") throws {
            guard let strictness else { return complain("\(fault); it runs on plain TCP\(advice)") }
            let message = "\(fault); not started because of \(strictness) (without it, it runs on plain TCP)"
            throw failure(message, code: Exit.refused)
        }
        let interpreter = program.interpreter()
        if case .unreachable(let reason) = Reach(of: interpreter) {
            let throughAnother = "\(program.name) is run by \(interpreter), which"
            try stayPlain(
                "\(interpreter == program.path ? program.name : throughAnother) \(reason)",
                advice: " ('skein relay' connects it with STP sockets)")
            return false
        }
        // The header is put in all the same: what the program starts may have other rules.
        if let origin = rules.offOrigin {
            try stayPlain("\(program.name) is switched off by \(subject.place(origin, .off))")
        }
        guard let header = Header.find() else { throw failure(Header.advice, code: Exit.refused) }
        if header.contains(where: { $0 == ":" || $0 == " " }) {
            let message =
                "LD_PRELOAD can't carry a path with a space or colon; link it from elsewhere and set SKEIN_PRELOAD"
            throw failure("\(header): \(message)", code: Exit.refused)
        }
        environment["LD_PRELOAD"] = Header.preload(header, before: environment["LD_PRELOAD"])
        return true
    }

    private func withoutHeader(_ environment: Environment) -> Environment {
        var environment = environment
        let others = Header.without(environment["LD_PRELOAD"])
        environment["LD_PRELOAD"] = others.isEmpty ? nil : others.joined(separator: ":")
        return environment
    }

    /// What is not given on the command line stays as the environment has it.
    private func setOptions(_ environment: inout Environment) {
        if let only { environment["SKEIN_ONLY"] = only.text }
        if let not { environment["SKEIN_NOT"] = not.text }
        if let spin { environment["SKEIN_SPIN"] = spin.rawValue }
        if strict { environment["SKEIN_STRICT"] = "1" }
        if let log { environment["SKEIN_LOG"] = absolute(log) }
    }

    private static func explain(_ error: SystemError, _ program: Program) -> String {
        if error.code == ENOENT {
            let wanted = program.missingHelper
            return "\(program.name) needs \(wanted), which does not exist on this machine; install it"
        }
        return "\(program.name) can't be run: \(error.text)"
    }
}
