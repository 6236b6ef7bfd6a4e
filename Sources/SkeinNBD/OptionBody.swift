// The data of options. Every length in them is the client's word, and checked before it is used.

/// INFO and GO: a name, and what else the client wants to know.
struct InfoBody: Equatable {
    let name: String
    /// Kinds that we don't know are left out.
    let wanted: [InfoKind]

    /// Throws where the lengths inside don't make up the whole, or the name is none.
    init(_ bytes: RawSpan) throws(OptionFault) {
        guard bytes.byteCount >= 6 else { throw .invalid("the option is too short") }
        let length = Int(bytes.word(at: 0, as: UInt32.self))
        guard length <= bytes.byteCount - 6 else { throw .invalid("the name is longer than the option") }
        name = try bytes.name(at: 4, count: length)
        let count = Int(bytes.word(at: 4 + length, as: UInt16.self))
        guard bytes.byteCount == 6 + length + 2 * count else {
            throw .invalid("the list of information has another length than it says")
        }
        var wanted: [InfoKind] = []
        for index in 0..<count {
            if let kind = InfoKind(rawValue: bytes.word(at: 6 + length + 2 * index)), !wanted.contains(kind) {
                wanted.append(kind)
            }
        }
        self.wanted = wanted
    }
}

/// LIST_META_CONTEXT and SET_META_CONTEXT: a name, and queries.
struct ContextBody: Equatable {
    let name: String
    let queries: [String]

    init(_ bytes: RawSpan) throws(OptionFault) {
        guard bytes.byteCount >= 8 else { throw .invalid("the option is too short") }
        let length = Int(bytes.word(at: 0, as: UInt32.self))
        guard length <= bytes.byteCount - 8 else { throw .invalid("the name is longer than the option") }
        name = try bytes.name(at: 4, count: length)
        let count = bytes.word(at: 4 + length, as: UInt32.self)
        var position = 8 + length
        var queries: [String] = []
        // Each query takes four bytes at least, so a count that is too high ends at the option's end.
        for _ in 0..<count {
            guard bytes.byteCount - position >= 4 else { throw .invalid("there are fewer queries than it says") }
            let size = Int(bytes.word(at: position, as: UInt32.self))
            guard size <= bytes.byteCount - position - 4 else { throw .invalid("a query is longer than the option") }
            queries.append(try bytes.name(at: position + 4, count: size))
            position += 4 + size
        }
        guard position == bytes.byteCount else { throw .invalid("there is more than the queries") }
        self.queries = queries
    }
}

/// Why an option is refused.
enum OptionFault: Error, Equatable {
    case invalid(String)
    case tooBig(String)
}

extension RawSpan {
    /// A string of the protocol's: UTF-8 without a NUL, of 4096 bytes at most.
    func name(at offset: Int, count: Int) throws(OptionFault) -> String {
        guard count <= Limit.string else { throw .tooBig("a string has more than \(Limit.string) bytes") }
        let bytes = array(offset, count: count)
        guard !bytes.contains(0), let text = String(validating: bytes, as: UTF8.self) else {
            throw .invalid("a string isn't UTF-8 without NUL")
        }
        return text
    }
}
