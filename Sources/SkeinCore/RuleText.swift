// The form of rules: `KEY = VALUE` lines, `# comments` and `[program NAME]` sections in a file, values alone
// in the environment.

extension RuleSet {
    /// Takes the settings of a whole file that are for the program. What it can't read it reports and leaves out.
    mutating func read(
        _ text: Span<UInt8>, _ origin: Origin, section: Origin, program: Span<UInt8>, report: (Fault) -> Void
    ) {
        // Nil in a section that is another program's: read for its faults alone.
        var place: Origin? = origin
        var number: UInt = 0
        var start = 0
        while start < text.count {
            number += 1
            let rest = text.extracting(start..<text.count)
            let length = rest.index(of: ASCII.newline) ?? rest.count
            start += length + 1
            let line = rest.extracting(0..<RuleSet.end(ofSetting: rest.extracting(0..<length)))
            let setting = line.extracting(line.trimmed)
            if setting.isEmpty { continue }
            func complain(_ kind: Fault.Kind, _ word: Text) {
                report(Fault(kind: kind, word: word, line: number, origin: origin, key: nil))
            }
            if setting.first == ASCII.openBracket {
                place = RuleSet.isSection(setting, of: program, complain) ? section : nil
            } else {
                readSetting(setting, place, complain)
            }
        }
    }

    /// Where a comment begins, or the line ends. A '#' within a word is no comment.
    private static func end(ofSetting line: Span<UInt8>) -> Int {
        for index in line.indices where line[index] == ASCII.hash {
            if index == 0 || ASCII.isBlank(line[index - 1]) { return index }
        }
        return line.last == ASCII.carriageReturn ? line.count - 1 : line.count
    }

    /// Whether the section is for a program of that file name; the last character of its name may be a star.
    private static func isSection(
        _ header: Span<UInt8>, of program: Span<UInt8>, _ complain: (Fault.Kind, Text) -> Void
    ) -> Bool {
        let inside = header.extracting(1..<(header.last == ASCII.closeBracket ? header.count - 1 : header.count))
        var words = inside.extracting(inside.trimmed)
        let end = words.firstBlank ?? words.count
        guard header.last == ASCII.closeBracket, words.extracting(0..<end).isEqual(to: "program"), end < words.count
        else {
            complain(.section, Text(word: header))
            return false
        }
        words = words.extracting(end..<words.count)
        let name = words.extracting(words.trimmed)
        if name.last == ASCII.star { return program.begins(with: name.extracting(0..<name.count - 1)) }
        return name.count == program.count && program.begins(with: name)
    }

    private mutating func readSetting(
        _ setting: Span<UInt8>, _ place: Origin?, _ complain: (Fault.Kind, Text) -> Void
    ) {
        guard let equals = setting.index(of: ASCII.equals) else { return complain(.setting, Text(word: setting)) }
        let left = setting.extracting(0..<equals)
        let name = left.extracting(left.trimmed)
        guard let key = RuleKey(name) else {
            return complain(.key, Text(word: name))
        }
        let right = setting.extracting(equals + 1..<setting.count)
        let value = right.extracting(right.trimmed)
        if value.isEmpty { return complain(.value, Text(word: name)) }
        set(key, value, place, complain)
    }

    /// Takes the value of a key. From nowhere (nil) it is only read, for its faults.
    package mutating func set(
        _ key: RuleKey, _ value: Span<UInt8>, _ origin: Origin?, _ complain: (Fault.Kind, Text) -> Void
    ) {
        switch key {
        case .only: _ = only.read(value, origin, complain)
        case .not:
            // What can't be remembered can't be refused: then nothing is taken.
            if !not.read(value, origin, complain) { off = Flag(isOn: true, origin: origin) }
        case .strict: strict.read(value, origin, complain)
        case .off: off.read(value, origin, complain)
        case .spin:
            guard let policy = Spin.Policy(value) else { return complain(.spin, Text(word: value)) }
            if let origin { spin = (policy, origin) }
        }
    }
}

extension TermList {
    /// Terms with commas between them, or `none`. A term that can't be read is left out. False when memory ran out.
    fileprivate mutating func read(
        _ value: Span<UInt8>, _ origin: Origin?, _ complain: (Fault.Kind, Text) -> Void
    ) -> Bool {
        if let origin { begin(origin) }
        if value.isEqual(to: "none") { return true }
        var isWhole = true
        var start = 0
        while start <= value.count {
            let rest = value.extracting(start..<value.count)
            let length = rest.index(of: ASCII.comma) ?? rest.count
            start += length + 1
            let part = rest.extracting(0..<length)
            let word = part.extracting(part.trimmed)
            do throws(Fault.Kind) {
                if word.isEqual(to: "none") { throw .list }
                let term = try Term(word)
                if origin != nil && !append(term) {
                    isWhole = false
                    throw .noMemory
                }
            } catch {
                complain(error, Text(word: word))
            }
        }
        return isWhole
    }
}

extension RuleSet.Flag {
    fileprivate mutating func read(
        _ value: Span<UInt8>, _ origin: Origin?, _ complain: (Fault.Kind, Text) -> Void
    ) {
        let yes = value.isEqual(to: "yes") || value.isEqual(to: "1")
        guard yes || value.isEqual(to: "no") || value.isEqual(to: "0") else {
            return complain(.flag, Text(word: value))
        }
        guard let origin else { return }
        isOn = yes
        self.origin = origin
    }
}

extension Spin.Policy {
    fileprivate init?(_ value: Span<UInt8>) {
        if value.isEqual(to: "off") {
            self = .off
        } else if value.isEqual(to: "adaptive") {
            self = .adaptive
        } else if value.isEqual(to: "fixed") {
            self = .fixed
        } else {
            return nil
        }
    }
}

extension Text {
    /// A word of a rule for a message: what a terminal would obey, and what isn't ASCII, becomes a question mark.
    init(word: Span<UInt8>) {
        self.init()
        for index in word.indices { append(byte: 32...126 ~= word[index] ? word[index] : 63) }
    }
}
