import CContract
import Glibc

/// One sentence of the contract, and the check that decides whether it holds.
struct Case: Sendable {
    let sentence: String
    /// With which of a face's families, and how, where that is not all the same.
    let setting: Setting?
    /// After this the case has failed; a guard against hanging, never a claim about speed.
    let watchdogSeconds: Int
    let body: @Sendable (Face) throws -> Void
    /// Set where the sentence holds for some faces alone: see `differing`.
    var difference: Difference?

    init(
        _ sentence: String, _ setting: Setting? = nil, watchdogSeconds: Int = 10,
        _ body: @escaping @Sendable (Face) throws -> Void
    ) {
        self.sentence = sentence
        self.setting = setting
        self.watchdogSeconds = watchdogSeconds
        self.body = body
    }

    /// The sentence with its setting in words; nil where the face has no such case.
    func title(on face: Face) -> String? {
        if let difference, !difference.faces.contains(face.contract) { return nil }
        guard let setting else { return sentence }
        // The only family of a face is its first and its second: once is enough where nothing else differs.
        if setting.family == .second && setting.words.isEmpty && face.families.count == 1 { return nil }
        let words = setting.words.isEmpty ? "" : ", \(setting.words)"
        return "\(sentence) (\(face.family(setting.family))\(words))"
    }
}

/// How a case is met.
struct Setting: Sendable {
    let family: FamilyChoice
    /// Who is who and where: "seen from the client".
    var words = ""
}

/// A face has two families, or one that stands for both.
enum FamilyChoice: Sendable {
    case first, second
}

/// Why a sentence holds for some faces alone.
struct Difference: Sendable {
    let reason: String
    let faces: Set<Contract>
}

/// The same question, with TCP's answer and STP's: for the few things where an STP call is meant to differ.
func differing(_ reason: String, tcp: [Case], stp: [Case]) -> [Case] {
    tcp.holding(for: [.tcp], reason) + stp.holding(for: [.stp, .swift], reason)
}

extension [Case] {
    func holding(for faces: Set<Contract>, _ reason: String) -> [Case] {
        map {
            var marked = $0
            marked.difference = Difference(reason: reason, faces: faces)
            return marked
        }
    }
}

/// An expectation that did not hold.
struct Mismatch: Error, CustomStringConvertible {
    let description: String

    init(expected: String, got: String, _ what: String) {
        description = "expected \(expected), got \(got)" + (what.isEmpty ? "" : " (\(what))")
    }
}

/// The case cannot be decided on this machine.
struct Skip: Error {
    let reason: String
}

func expect<Value: Equatable>(_ got: Value, _ expected: Value, _ what: String = "") throws {
    if got != expected { throw Mismatch(expected: "\(expected)", got: "\(got)", what) }
}

func expect(_ holds: Bool, _ expected: String, got: @autoclosure () -> String) throws {
    if !holds { throw Mismatch(expected: expected, got: got(), "") }
}

/// What a call that counts or names something returned: its value or its errno.
enum Outcome: Equatable, Sendable, CustomStringConvertible, ExpressibleByIntegerLiteral {
    case value(Int)
    case failed(Int32)

    /// Takes errno at once, before anything else can change it.
    init(_ returned: Int) { self = returned < 0 ? .failed(errno) : .value(returned) }
    init(_ returned: Int32) { self.init(Int(returned)) }
    init(integerLiteral value: Int) { self = .value(value) }

    var value: Int {
        get throws {
            if case .value(let value) = self { return value }
            throw Mismatch(expected: "success", got: description, "")
        }
    }

    var description: String {
        switch self {
        case .value(let value): "\(value)"
        case .failed(let code): errorName(code)
        }
    }
}

/// What a call that receives returned: bytes as text, end of file, or errno.
enum Received: Equatable, Sendable, CustomStringConvertible, ExpressibleByStringLiteral {
    case text(String)
    case end
    case failed(Int32)

    init(stringLiteral value: String) { self = .text(value) }

    init(_ count: Int, _ bytes: [UInt8]) {
        if count < 0 {
            self = .failed(errno)
        } else if count == 0 {
            self = .end
        } else {
            self = .text(String(decoding: bytes.prefix(count), as: UTF8.self))
        }
    }

    var description: String {
        switch self {
        case .text(let text): text
        case .end: "end"
        case .failed(let code): errorName(code)
        }
    }
}

func errorName(_ code: Int32) -> String {
    guard code != 0 else { return "0" }
    guard let name = strerrorname_np(code) else { return "errno \(code)" }
    return String(cString: name)
}

/// Event bits; Linux gives poll and epoll the same numbers.
struct Events: OptionSet, Sendable, CustomStringConvertible {
    let rawValue: UInt32

    static let readable = Events(rawValue: 0x001)
    static let priority = Events(rawValue: 0x002)
    static let writable = Events(rawValue: 0x004)
    static let error = Events(rawValue: 0x008)
    static let hangup = Events(rawValue: 0x010)
    static let invalid = Events(rawValue: 0x020)
    static let readNormal = Events(rawValue: 0x040)
    static let readBand = Events(rawValue: 0x080)
    static let writeNormal = Events(rawValue: 0x100)
    static let writeBand = Events(rawValue: 0x200)
    static let peerHalfClosed = Events(rawValue: 0x2000)
    static let oneShot = Events(rawValue: 1 << 30)
    static let edge = Events(rawValue: 1 << 31)
    static let exclusive = Events(rawValue: 1 << 28)

    static let names: [(Events, String)] = [
        (.readable, "IN"), (.priority, "PRI"), (.writable, "OUT"), (.error, "ERR"), (.hangup, "HUP"),
        (.invalid, "NVAL"), (.readNormal, "RDNORM"), (.readBand, "RDBAND"), (.writeNormal, "WRNORM"),
        (.writeBand, "WRBAND"), (.peerHalfClosed, "RDHUP"), (.oneShot, "ONESHOT"), (.edge, "ET"),
    ]

    init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Reads the form that `description` writes.
    init(named text: String) {
        var events: Events = []
        for word in text.split(separator: "|") {
            for (event, name) in Events.names where name == word { events.insert(event) }
        }
        self = events
    }

    var description: String {
        let words = Events.names.filter { contains($0.0) }.map(\.1)
        return words.isEmpty ? "0" : words.joined(separator: "|")
    }
}
