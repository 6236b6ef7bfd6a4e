import ArgumentParser
import SkeinText

/// `skein why`: whether each TCP socket of a process is on shared memory, and if not, why not.
struct Why: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "why",
        abstract: "Say whether a process's sockets are on shared memory, or why not.",
        discussion: "Needs the rights of the process's user, or root's.")

    @Argument(
        help: ArgumentHelp("A process, or one of its descriptors.", valueName: "pid[:fd]"), transform: Target.init)
    var target: Target

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let process = Process(target.process)
        guard process.standing.isAlive else {
            throw failure("there is no process \(target.process); 'skein ls' lists those with sockets on shared memory")
        }
        let title = "process \(target.process) (\(printable(process.name)))"
        let descriptors: [SocketDescriptor]
        do {
            descriptors = try SocketDescriptor.all(of: process)
        } catch {
            throw failure("\(title) hides its descriptors from us: \(error.text); run this as its user or as root")
        }
        let survey = Survey.around(process)
        survey.warnings.forEach(complain)
        let explainer = Explainer(process, survey.sockets)
        let explanations =
            if let number = target.descriptor {
                [try explain(number, explainer, descriptors)]
            } else {
                descriptors.compactMap(explainer.explanation)
            }
        if json {
            let list = explanations.map(\.json).joined(separator: ",")
            try output("{\"pid\":\(target.process),\"program\":\(quoted(process.name)),\"sockets\":[\(list)]}")
        } else if explanations.isEmpty {
            try output("\(title) has no TCP sockets; nothing to do")
        } else {
            try output(explanations.map(\.text).joined(separator: "\n"))
        }
    }

    private func explain(
        _ number: Int32, _ explainer: Explainer, _ descriptors: [SocketDescriptor]
    ) throws -> Explanation {
        if let descriptor = descriptors.first(where: { $0.number == number }) {
            return explainer.explanation(descriptor)
                ?? other(number, "is no TCP socket (\(descriptor.protocolName)), and stays as it is")
        }
        guard let file = Process(target.process).file(behind: number) else {
            throw failure("process \(target.process) has no descriptor \(number); leave it out to see all sockets")
        }
        return other(number, "is no socket (\(printable(file))), and stays as it is")
    }

    private func other(_ number: Int32, _ sentence: String) -> Explanation {
        Explanation(descriptor: number, carrier: nil, sentence: sentence)
    }
}

/// PID or PID:FD.
struct Target {
    let process: Int32
    let descriptor: Int32?

    init(_ text: String) throws {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { Int32($0) }
        guard (1...2).contains(parts.count), let process = parts[0], process > 0,
            parts.allSatisfy({ ($0 ?? -1) >= 0 })
        else {
            throw ValidationError("give a process as PID, or one of its descriptors as PID:FD")
        }
        self.process = process
        descriptor = parts.count == 2 ? parts[1] : nil
    }
}
