import CXXHash

/// The XXH3 checksum of some bytes, 128 bits, in the byte order that `xxhsum -H2` prints.
///
/// It finds what goes wrong by accident. It is no signature: whoever makes the bytes can choose them to fit.
package struct Checksum: Hashable, Sendable {
    /// Bytes that it takes in a message.
    package static let size = 16

    private let high: UInt64
    private let low: UInt64

    fileprivate init(_ hash: XXH128_hash_t) {
        high = hash.high64
        low = hash.low64
    }

    /// 32 hexadecimal digits.
    package var text: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

extension Checksum {
    /// The checksum that begins at `offset` of a message.
    init(_ message: Span<UInt8>, at offset: Int) {
        high = UInt64(bigEndian: message.word(at: offset))
        low = UInt64(bigEndian: message.word(at: offset + 8))
    }

    func append(to message: inout [UInt8]) {
        message.append(high.bigEndian)
        message.append(low.bigEndian)
    }
}

/// The checksum of bytes that come one piece after the other.
@safe package struct RunningChecksum: ~Copyable {
    private let state: OpaquePointer

    /// That of no bytes yet.
    package init() {
        guard let state = unsafe XXH3_createState() else { fatalError("no memory for a checksum") }
        unsafe self.state = unsafe state
        unsafe XXH3_128bits_reset(state)
    }

    deinit { unsafe XXH3_freeState(state) }

    /// Takes in the bytes that come next.
    package mutating func add(_ bytes: Span<UInt8>) {
        unsafe bytes.withUnsafeBufferPointer { buffer in
            _ = unsafe XXH3_128bits_update(state, buffer.baseAddress, buffer.count)
        }
    }

    /// That of all bytes so far.
    package var value: Checksum { unsafe Checksum(XXH3_128bits_digest(state)) }
}
