/// What a sender has to give.
package struct Offer: Equatable, Sendable {
    /// The size in bytes; nil where only the end will tell.
    package let size: UInt64?
    /// The permissions of the file, without set-user-id and the like.
    package let mode: UInt16
    /// The name of the file in UTF-8, without its folder; empty where it has none. A peer's may hold anything.
    package let name: [UInt8]

    /// An offer of ours. Nil where the name is longer than 255 bytes.
    package init?(name: String, size: UInt64?, mode: UInt16) {
        guard name.utf8.count <= Limit.text else { return nil }
        self.size = size
        self.mode = mode & 0o777
        self.name = Array(name.utf8)
    }

    /// Bytes of the longest name that a receiver takes: its file in progress has a longer one.
    package static let longestName = 255 - partSuffix.utf8.count
    /// What the name of a file in progress ends with.
    package static let partSuffix = ".skein-part"

    /// The name, where it can be one of a file in a folder that the user has chosen and nothing else: no way
    /// out of the folder, nothing hidden that some program obeys, nothing that a terminal obeys. Else nil.
    package var safeName: String? {
        guard !name.isEmpty, name.count <= Offer.longestName, name[0] != UInt8(ascii: "."),
            name.allSatisfy({ $0 >= 32 && $0 != 127 && $0 != UInt8(ascii: "/") })
        else { return nil }
        return String(validating: name, as: UTF8.self)
    }
}

extension Offer {
    private static let unknown = UInt64.max

    init(body: Span<UInt8>) throws(TransferFault) {
        mode = (body.word(at: 0) as UInt16) & 0o777
        let stated: UInt64 = body.word(at: 2)
        size = stated == Offer.unknown ? nil : stated
        // No file is larger than what the system's calls can count.
        if let size, size > UInt64(Int64.max) { throw .nonsense }
        name = body.bytes(from: 10)
    }

    var message: [UInt8] {
        var body: [UInt8] = []
        body.append(mode)
        body.append(size ?? Offer.unknown)
        return SkeinTransfer.message(.offer, body + name)
    }
}
