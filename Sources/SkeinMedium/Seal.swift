import CXXHash

/// How blocks of a medium prove themselves: a checksum against accidents, or a cipher against everybody without
/// the group's key.
package protocol Seal: Sendable {
    /// Whether bodies are encrypted.
    var isSealed: Bool { get }
    /// The key of the blocks of one kind that one incarnation writes for another. Two calls with the same arguments
    /// give keys that open each other's blocks.
    func key(_ kind: BlockKind, writer: Identifier, reader: Identifier) -> any BlockKey
}

/// The key of the blocks of one kind, writer and reader.
package protocol BlockKey: Sendable {
    /// Seals the bytes of `body` in place, and returns their proof. `count` is never the same twice under one key.
    func seal(_ block: inout [UInt8], _ body: Range<Int>, count: UInt64, associated: [UInt8]) -> Identifier
    /// The bytes of `body`, opened; nil where the proof doesn't fit them, the count and the associated bytes.
    func open(_ block: [UInt8], _ body: Range<Int>, count: UInt64, associated: [UInt8], proof: Identifier) -> [UInt8]?
}

/// Blocks in clear, with XXH64. It finds what goes wrong by accident; whoever can write to the medium can forge it.
package struct ChecksumSeal: Seal, BlockKey {
    package init() {}

    package var isSealed: Bool { false }

    package func key(_ kind: BlockKind, writer: Identifier, reader: Identifier) -> any BlockKey { self }

    package func seal(_ block: inout [UInt8], _ body: Range<Int>, count: UInt64, associated: [UInt8]) -> Identifier {
        proof(block, body, associated)
    }

    package func open(
        _ block: [UInt8], _ body: Range<Int>, count: UInt64, associated: [UInt8], proof: Identifier
    ) -> [UInt8]? {
        self.proof(block, body, associated) == proof ? Array(block[body]) : nil
    }

    /// The sum of the body, with the sum of the associated bytes as its seed: so neither needs to be copied.
    private func proof(_ block: [UInt8], _ body: Range<Int>, _ associated: [UInt8]) -> Identifier {
        let seed = unsafe associated.withUnsafeBytes { unsafe XXH64($0.baseAddress, $0.count, 0) }
        let sum = unsafe block[body].withUnsafeBytes { unsafe XXH64($0.baseAddress, $0.count, seed) }
        return Identifier(sum, 0)
    }
}
