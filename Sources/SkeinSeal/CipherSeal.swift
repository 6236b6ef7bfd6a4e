import Crypto
import SkeinMedium

/// Blocks sealed with AES-256-GCM under the group's key.
///
/// Each kind, writer and reader has a key of its own, derived by HKDF-SHA256 with the medium's identity as salt. The
/// nonce is the block's write count, which never repeats under one key, as an incarnation never comes back.
package struct CipherSeal: Seal {
    /// Bytes of a group's key.
    package static let keySize = 32

    private let groupKey: SymmetricKey
    private let medium: Identifier

    /// The seal of one medium. `groupKey` has `keySize` bytes.
    package init(groupKey: [UInt8], medium: Identifier) {
        precondition(groupKey.count == CipherSeal.keySize, "a group's key has 32 bytes")
        self.groupKey = SymmetricKey(data: groupKey)
        self.medium = medium
    }

    package var isSealed: Bool { true }

    package func key(_ kind: BlockKind, writer: Identifier, reader: Identifier) -> any BlockKey {
        CipherKey(key: derive(label(kind), writer, reader, size: 32))
    }

    /// What the superblock holds, so that a wrong key is told from a damaged medium.
    package var keyCheck: Identifier {
        let bytes = unsafe derive("skein check", .zero, .zero, size: Identifier.size)
            .withUnsafeBytes { unsafe [UInt8]($0) }
        return Identifier(bytes, at: 0)
    }

    private func derive(_ label: String, _ writer: Identifier, _ reader: Identifier, size: Int) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(
            inputKeyMaterial: groupKey, salt: medium.bytes, info: Array(label.utf8) + writer.bytes + reader.bytes,
            outputByteCount: size)
    }

    private func label(_ kind: BlockKind) -> String {
        switch kind {
        case .superblock: preconditionFailure("superblocks are in clear: who has no key must read them")
        case .lease: "skein lease"
        case .row: "skein row"
        case .table: "skein table"
        case .data: "skein conduit"
        }
    }
}

private struct CipherKey: BlockKey {
    let key: SymmetricKey

    func seal(_ block: inout [UInt8], _ body: Range<Int>, count: UInt64, associated: [UInt8]) -> Identifier {
        do {
            let box = try AES.GCM.seal(
                block[body], using: key, nonce: CipherKey.nonce(count), authenticating: associated)
            block.replaceSubrange(body, with: box.ciphertext)
            return Identifier([UInt8](box.tag), at: 0)
        } catch {
            preconditionFailure("AES-GCM takes every key of 32 bytes, and every body of a block")
        }
    }

    func open(
        _ block: [UInt8], _ body: Range<Int>, count: UInt64, associated: [UInt8], proof: Identifier
    ) -> [UInt8]? {
        guard
            let box = try? AES.GCM.SealedBox(
                nonce: CipherKey.nonce(count), ciphertext: block[body], tag: proof.bytes),
            let opened = try? AES.GCM.open(box, using: key, authenticating: associated)
        else { return nil }
        return [UInt8](opened)
    }

    /// Four zeros, then the count.
    private static func nonce(_ count: UInt64) -> AES.GCM.Nonce {
        var bytes = [UInt8](repeating: 0, count: 12)
        bytes.put(count, at: 4)
        guard let nonce = try? AES.GCM.Nonce(data: bytes) else { preconditionFailure("a nonce has 12 bytes") }
        return nonce
    }
}
