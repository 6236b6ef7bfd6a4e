/// What can be told from outside of a process under Skein, or not.
struct Observed {
    let process: Process
    /// Whether the header is loaded into it; nil where we may not look.
    let hasHeader: Bool?
    private let environment: [String: String]

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

    /// Why its environment keeps a port away from shared memory, and what to do; nil when it doesn't.
    func whyExcluded(port: UInt16) -> String? {
        if environment["SKEIN_OFF"] != nil { return "SKEIN_OFF is set in its environment; unset it" }
        if ports("SKEIN_NOT").contains(port) {
            return "a rule excludes port \(port) (--not, SKEIN_NOT); leave it out there"
        }
        let only = ports("SKEIN_ONLY")
        if only.isEmpty || only.contains(port) { return nil }
        return "a rule allows other ports alone (--only, SKEIN_ONLY); add \(port) there"
    }

    /// As the header itself reads them (Setup.swift).
    private func ports(_ name: String) -> [UInt16] {
        (environment[name] ?? "").split { !("0"..."9").contains($0) }.compactMap { UInt16($0) }
    }

    /// "process 12 (nginx)"
    var description: String { "process \(process.identifier) (\(printable(process.name)))" }
}
