import Crypto
import Glibc
import SkeinSeal

/// The key that the hosts of a group share: 32 random bytes, in a file of their own, or as a text that one types.
///
/// The text has 52 characters that hold the key and 4 that check it, in groups of four. Its alphabet leaves out i, l, o and u,
/// which look like others; whoever types them all the same is understood.
package struct GroupKey: Equatable {
    package let bytes: [UInt8]

    private static let alphabet = Array("0123456789abcdefghjkmnpqrstvwxyz".utf8)
    private static let keyCharacters = 52
    private static let checkCharacters = 4

    /// A new one.
    package init() {
        var generator = SystemRandomNumberGenerator()
        bytes = (0..<CipherSeal.keySize).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    // MARK: As text

    /// What another host is told.
    package var text: String {
        let characters = GroupKey.characters(bytes, count: GroupKey.keyCharacters) + GroupKey.check(bytes)
        return stride(from: 0, to: characters.count, by: 4)
            .map { String(decoding: characters[$0..<$0 + 4], as: UTF8.self) }
            .joined(separator: "-")
    }

    /// Reads such a text; case, blanks and dashes don't matter.
    package init(text: String) throws(AgentFault) {
        var values: [UInt8] = []
        for character in text.lowercased().utf8 {
            switch character {
            case UInt8(ascii: "-"), UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"):
                continue
            case UInt8(ascii: "o"): values.append(0)
            case UInt8(ascii: "i"), UInt8(ascii: "l"): values.append(1)
            default:
                guard let value = GroupKey.alphabet.firstIndex(of: character) else {
                    throw AgentFault("'\(Character(UnicodeScalar(character)))' is no character of a key")
                }
                values.append(UInt8(value))
            }
        }
        let whole = GroupKey.keyCharacters + GroupKey.checkCharacters
        guard values.count == whole else {
            throw AgentFault("a key has \(whole) characters, and this text has \(values.count)")
        }
        let bytes = GroupKey.bytes(values.prefix(GroupKey.keyCharacters))
        guard GroupKey.check(bytes) == values.suffix(GroupKey.checkCharacters).map({ GroupKey.alphabet[Int($0)] })
        else {
            throw AgentFault("the key is mistyped: its check digits don't fit")
        }
        self.bytes = bytes
    }

    /// Five bits a character, the first bits first.
    private static func characters(_ bytes: some Sequence<UInt8>, count: Int) -> [UInt8] {
        var characters: [UInt8] = []
        var bits = 0
        var held: UInt32 = 0
        for byte in bytes {
            held = held << 8 | UInt32(byte)
            bits += 8
            while bits >= 5 {
                bits -= 5
                characters.append(alphabet[Int(held >> UInt32(bits) & 31)])
            }
        }
        if characters.count < count { characters.append(alphabet[Int(held << UInt32(5 - bits) & 31)]) }
        return Array(characters.prefix(count))
    }

    private static func bytes(_ values: some Sequence<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = []
        var bits = 0
        var held: UInt32 = 0
        for value in values {
            held = held << 5 | UInt32(value)
            bits += 5
            guard bits >= 8 else { continue }
            bits -= 8
            bytes.append(UInt8(truncatingIfNeeded: held >> UInt32(bits)))
        }
        return bytes
    }

    private static func check(_ bytes: [UInt8]) -> [UInt8] {
        characters(SHA256.hash(data: Array("skein key".utf8) + bytes).prefix(3), count: checkCharacters)
    }

    // MARK: In a file

    /// Where a group's key lies: what was asked for, what SKEIN_KEY_FILE says, or the user's folder of keys.
    package static func path(group: String, asked: String?) -> String {
        if let path = asked ?? environment("SKEIN_KEY_FILE") { return path }
        if geteuid() == 0 { return "/etc/skein/keys/\(group).key" }
        let folder = environment("XDG_CONFIG_HOME") ?? "\(environment("HOME") ?? "")/.config"
        return "\(folder)/skein/keys/\(group).key"
    }

    /// The key in a file; nil where there is no file. One that others could read or change is refused.
    package init?(file path: String) throws(AgentFault) {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        if descriptor < 0 && errno == ENOENT { return nil }
        guard descriptor >= 0 else { throw AgentFault("the key \(path) can't be read: \(SkeinAgent.text(errno))") }
        defer { close(descriptor) }
        var status = stat()
        guard unsafe fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw AgentFault("the key \(path) is no file")
        }
        guard status.st_uid == geteuid() || status.st_uid == 0, status.st_mode & 0o077 == 0 else {
            throw AgentFault("the key \(path) can be read by others: make it yours alone with 'chmod 600 \(path)'")
        }
        var content = [UInt8](repeating: 0, count: 256)
        let count = unsafe read(descriptor, &content, content.count)
        do throws(AgentFault) {
            try self.init(text: String(decoding: content.prefix(max(count, 0)), as: UTF8.self))
        } catch {
            throw AgentFault("\(path): \(error)")
        }
    }

    /// Writes it to a file that isn't there, in folders that are made where they are missing.
    package func write(to path: String) throws(AgentFault) {
        var folder = ""
        for part in path.split(separator: "/", omittingEmptySubsequences: false).dropLast() {
            folder += "\(part)/"
            if folder != "/" { unsafe mkdir(folder, 0o700) }
        }
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw AgentFault(
                errno == EEXIST
                    ? "there is a key already in \(path): move it away first, since it opens media"
                    : "the key can't be written to \(path): \(SkeinAgent.text(errno))")
        }
        defer { close(descriptor) }
        let line = Array("\(text)\n".utf8)
        guard unsafe Glibc.write(descriptor, line, line.count) == line.count, fsync(descriptor) == 0 else {
            let error = errno
            unsafe unlink(path)
            throw AgentFault("the key can't be written to \(path): \(SkeinAgent.text(error))")
        }
    }
}

private func environment(_ name: String) -> String? {
    guard let value = unsafe getenv(name), unsafe value.pointee != 0 else { return nil }
    return unsafe String(cString: value)
}
