import ArgumentParser
import Glibc
import SkeinTransfer

/// What is sent: a regular file, or standard input.
struct Source: ~Copyable {
    private let file: File?
    let offer: Offer

    /// Standard input can't be read twice, so it can't be sent from the middle.
    var isFile: Bool { file != nil }

    /// Opens what the user named; "-" is standard input. `name` is offered instead of the file's own.
    init(_ path: String, name: String?) throws {
        if path == "-" {
            self.init(nil, try Source.offer(name ?? "", size: nil, mode: 0o666))
            return
        }
        let file: File = try Source.explained(path) { () throws(SystemError) in try File(path) }
        let status = try Source.explained(path) { () throws(SystemError) in try file.status() }
        guard status.st_mode & S_IFMT == S_IFREG else {
            let isFolder = status.st_mode & S_IFMT == S_IFDIR
            let advice = isFolder ? "tar c '\(path)' | skein send - ADDRESS" : "skein send - ADDRESS < '\(path)'"
            throw failure("\(path) is \(isFolder ? "a folder" : "no regular file"); send it by '\(advice)'")
        }
        let mode = UInt16(status.st_mode & 0o777)
        self.init(file, try Source.offer(name ?? lastPart(path), size: UInt64(status.st_size), mode: mode))
    }

    private init(_ file: consuming File?, _ offer: Offer) {
        self.file = file
        self.offer = offer
    }

    /// The result of `body`, or what to tell the user.
    private static func explained<Result: ~Copyable>(
        _ path: String, _ body: () throws(SystemError) -> Result
    ) throws -> Result {
        do {
            return try body()
        } catch {
            throw failure("\(path) can't be read: \(error.text)")
        }
    }

    private static func offer(_ name: String, size: UInt64?, mode: UInt16) throws -> Offer {
        guard let offer = Offer(name: name, size: size, mode: mode) else {
            throw ValidationError("a name has at most 255 bytes; give a shorter one by --name")
        }
        return offer
    }

    /// Fills `range` of the buffer from its beginning with what lies at `offset`. Returns how much; 0 at the end, and
    /// at the size that was offered.
    func read(into buffer: inout [UInt8], _ range: Range<Int>, at offset: UInt64) throws(SystemError) -> Int {
        guard let size = offer.size else { return try StandardStreams.read(into: &buffer, range) }
        let rest = Int(size - min(size, offset))
        return rest == 0 ? 0 : try file?.read(into: &buffer, range.prefix(rest), at: offset) ?? 0
    }

    /// The checksum of the first `count` bytes; nil where there are not so many.
    func checksum(ofFirst count: UInt64) throws(SystemError) -> RunningChecksum? {
        guard let size = offer.size, count <= size else { return nil }
        return try file?.checksum(ofFirst: count)
    }
}

extension File {
    /// The checksum of the first `count` bytes; nil where the file ends before.
    func checksum(ofFirst count: UInt64) throws(SystemError) -> RunningChecksum? {
        var checksum = RunningChecksum()
        var buffer = [UInt8](repeating: 0, count: Limit.chunk)
        var position: UInt64 = 0
        while position < count {
            let wanted = Int(min(UInt64(Limit.chunk), count - position))
            let read = try read(into: &buffer, 0..<wanted, at: position)
            if read == 0 { return nil }
            checksum.add(buffer.span.extracting(first: read))
            position += UInt64(read)
        }
        return checksum
    }
}
