/// Which connections of a program may go over shared memory, and what becomes of the others.
///
/// Two sets, each of which can only take away: the machine's, which nobody but root can change, and the
/// user's, in which the environment takes the place of the user's file, key by key.
package struct Rules {
    package internal(set) var machine = RuleSet()
    package internal(set) var user = RuleSet()
    /// Whether the hooks translate at all: set up, and not switched off.
    package var enabled = false

    package init() {}

    /// Whether an address that is dialled, or that a listener is bound to, may be served over memory.
    package func allows(_ address: Address) -> Bool { offOrigin == nil && exclusion(of: address) == nil }

    /// The rule that keeps an address away from shared memory; nil when none does.
    ///
    /// The clients of a listener at all addresses obey the machine's rules themselves, for the address that
    /// they dial: these exclude the listener only where they leave it no client. What the server's user has
    /// ruled they don't know: that excludes the listener as soon as it excludes one of its addresses.
    package func exclusion(of address: Address) -> Exclusion? {
        machine.exclusion(ofAll: address) ?? user.exclusion(ofSome: address)
    }

    /// What an exclusion is by, and where that stands.
    package struct Exclusion {
        package let key: RuleKey
        package let origin: Origin
    }

    /// Where it is written that everything stays TCP; nil when it doesn't.
    package var offOrigin: Origin? { machine.off.originIfOn ?? user.off.originIfOn }
    /// Where it is written that what can't go over memory fails (EHOSTUNREACH) instead of going over TCP; nil
    /// when it goes.
    package var strictOrigin: Origin? { machine.strict.originIfOn ?? user.strict.originIfOn }
    package var isStrict: Bool { strictOrigin != nil }
    /// How to wait, and where that is written.
    package var spin: (policy: Spin.Policy, origin: Origin?) {
        let set = user.spin.origin == nil ? machine.spin : user.spin
        return (set.policy, set.origin)
    }
}

/// Where a rule stands. A nearer one of the same set takes the place of those before it.
package enum Origin: UInt8 {
    case machineFile, machineSection, userFile, userSection, environment

    package var isOfMachine: Bool { self == .machineFile || self == .machineSection }
}

/// The keys of a rule: in a file as they are, in the environment by their variable.
package enum RuleKey: UInt8 {
    case only, not, strict, off, spin

    package static let count: UInt8 = 5

    /// Of that name; nil when there is none.
    init?(_ name: Span<UInt8>) {
        for value in 0..<RuleKey.count {
            guard let key = RuleKey(rawValue: value), name.isEqual(to: key.name) else { continue }
            self = key
            return
        }
        return nil
    }

    package var name: StaticString {
        switch self {
        case .only: "only"
        case .not: "not"
        case .strict: "strict"
        case .off: "off"
        case .spin: "spin"
        }
    }

    package var variable: StaticString {
        switch self {
        case .only: "SKEIN_ONLY"
        case .not: "SKEIN_NOT"
        case .strict: "SKEIN_STRICT"
        case .off: "SKEIN_OFF"
        case .spin: "SKEIN_SPIN"
        }
    }
}

/// What the machine has ruled, or the user.
package struct RuleSet {
    package init() {}

    package internal(set) var only = TermList()
    package internal(set) var not = TermList()
    package internal(set) var strict = Flag()
    package internal(set) var off = Flag()
    package internal(set) var spin = (policy: Spin.Policy.adaptive, origin: Origin?.none)

    package struct Flag {
        package internal(set) var isOn = false
        /// Nil when nobody has set it.
        package internal(set) var origin: Origin?
        var originIfOn: Origin? { isOn ? origin : nil }
    }

    /// The rule that leaves nothing of what the address stands for.
    func exclusion(ofAll address: Address) -> Rules.Exclusion? {
        if let origin = not.origin, not.coversAll(of: address) { return Rules.Exclusion(key: .not, origin: origin) }
        guard let origin = only.origin, !only.coversSome(of: address) else { return nil }
        return Rules.Exclusion(key: .only, origin: origin)
    }

    /// The rule that takes away some of what the address stands for.
    func exclusion(ofSome address: Address) -> Rules.Exclusion? {
        if let origin = not.origin, not.coversSome(of: address) { return Rules.Exclusion(key: .not, origin: origin) }
        guard let origin = only.origin, !only.coversAll(of: address) else { return nil }
        return Rules.Exclusion(key: .only, origin: origin)
    }
}

/// Terms in memory that is never given back: rules are read once.
@safe
package struct TermList {
    private var base: UnsafeMutablePointer<Term>?
    private var capacity = 0
    package private(set) var count = 0
    /// Nil when nobody has given a list: then `only` allows everything. A list can be given and empty.
    package private(set) var origin: Origin?

    package subscript(index: Int) -> Term {
        precondition(index >= 0 && index < count)
        return unsafe base![index]
    }

    func coversAll(of address: Address) -> Bool {
        for index in 0..<count where self[index].coversAll(of: address) { return true }
        return false
    }

    func coversSome(of address: Address) -> Bool {
        for index in 0..<count where self[index].coversSome(of: address) { return true }
        return false
    }

    /// Begins the list of a nearer origin, or goes on with that of the same.
    mutating func begin(_ origin: Origin) {
        if let before = self.origin, before != origin { count = 0 }
        self.origin = origin
    }

    /// False when there is no memory.
    mutating func append(_ term: Term) -> Bool {
        if count == capacity && !grow() { return false }
        unsafe base![count] = term
        count += 1
        return true
    }

    private mutating func grow() -> Bool {
        let size = max(4096, 2 * capacity * MemoryLayout<Term>.stride)
        guard let memory = unsafe allocate(size) else { return false }
        let larger = unsafe memory.bindMemory(to: Term.self, capacity: size / MemoryLayout<Term>.stride)
        for index in 0..<count { unsafe larger[index] = base![index] }
        unsafe base = larger
        capacity = size / MemoryLayout<Term>.stride
        return true
    }
}
