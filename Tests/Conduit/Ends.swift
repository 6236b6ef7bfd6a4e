import MediumKit
import SkeinConduit

extension Conduit {
    /// The next block of at most this many bytes.
    mutating func block(_ room: Int = 256 * 1024) -> [UInt8] {
        var block = [UInt8](repeating: 0xEE, count: room)
        var span = block.mutableSpan
        var bytes = unsafe span.mutableBytes
        let count = fill(&bytes)
        block.removeLast(room - count)
        return block
    }

    /// Takes a block; what was wrong with it, or nil.
    mutating func receive(_ block: [UInt8]) -> ConduitFault? {
        do {
            try unsafe take(block.span.bytes)
            return nil
        } catch {
            return error
        }
    }

    /// Queues as much of this as there is room for.
    mutating func send(_ filament: FilamentNumber, _ bytes: [UInt8]) -> Int { (try? write(filament, bytes)) ?? -1 }

    mutating func write(_ filament: FilamentNumber, _ bytes: [UInt8]) throws(FilamentFault) -> Int {
        try unsafe write(filament, bytes.span.bytes)
    }

    /// Reads what is there, or the first `count` bytes of it.
    mutating func received(_ filament: FilamentNumber, _ count: Int = .max) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: min(count, (try? readable(filament)) ?? 0))
        var span = bytes.mutableSpan
        var raw = unsafe span.mutableBytes
        let size = (try? read(filament, into: &raw)) ?? 0
        bytes.removeLast(bytes.count - size)
        return bytes
    }

    /// The fault of a call; nil where it does what it says.
    mutating func fault<Result>(
        _ call: (inout Conduit) throws(FilamentFault) -> Result
    ) -> FilamentFault? {
        do {
            _ = try call(&self)
            return nil
        } catch {
            return error
        }
    }
}

/// Both ends, and a link between them that loses nothing.
struct Pair: ~Copyable {
    var near: Conduit
    var far: Conduit

    init(near: Conduit.Limits = Conduit.Limits(), far: Conduit.Limits = Conduit.Limits()) {
        self.near = Conduit(.even, limits: near)
        self.far = Conduit(.odd, limits: far)
    }

    /// One block each way. Returns whether there was anything in them.
    @discardableResult
    mutating func exchange(_ room: Int = 256 * 1024) -> Bool {
        let there = near.block(room)
        let back = far.block(room)
        let faults = [far.receive(there), near.receive(back)].compactMap { $0 }
        if !faults.isEmpty { check(false, "honest ends find no fault", saw: "\(faults)") }
        return !there.isEmpty || !back.isEmpty
    }

    /// Exchanges blocks until there is nothing more to say.
    mutating func settle() { while exchange() {} }

    /// A filament that the near end opened and the far end accepted, with no events left.
    mutating func filament() -> FilamentNumber {
        guard let filament = try? near.open(kind: 1, address: []) else { preconditionFailure("a number is free") }
        settle()
        guard (try? far.accept(filament)) != nil else { preconditionFailure("the open came") }
        settle()
        _ = near.takeEvents()
        _ = far.takeEvents()
        return filament
    }
}

/// A frame as docs/CONDUIT.md has it, written without the code that is under test.
func frame(
    _ type: UInt8, _ filament: UInt32, _ sequence: UInt64, _ body: [UInt8] = [], flags: UInt16 = 0, version: UInt8 = 1,
    length: UInt32? = nil, zero: UInt32 = 0
) -> [UInt8] {
    [version, type] + little(flags) + little(filament) + little(length ?? UInt32(body.count)) + little(zero)
        + little(sequence) + body
}

func little<Word: FixedWidthInteger>(_ word: Word) -> [UInt8] {
    (0..<MemoryLayout<Word>.size).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
}
