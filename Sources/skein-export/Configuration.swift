import ArgumentParser
import Glibc
import SkeinExport

/// Options in a file: one a line, without its dashes and with its value behind it; `device` for what is served. What is said on the
/// command line comes after them.
struct Configuration {
    /// What the command line says, without the file's name.
    private let words: [String]
    private let path: String?

    /// Takes the words of the command line.
    init(_ words: [String], path: String?) {
        var rest = words[...]
        if rest.first == "serve" { rest = rest.dropFirst() }
        self.words = Array(rest)
        self.path = path
    }

    /// All that is said, read anew.
    func read() throws(ExportFault) -> Serve {
        do {
            return try Serve.parse(try lines() + words)
        } catch let fault as ExportFault {
            throw fault
        } catch {
            throw ExportFault("\(path ?? "the command line"): \(Serve.message(for: error))")
        }
    }

    private func lines() throws(ExportFault) -> [String] {
        guard let path else { return [] }
        guard let text = content(of: path) else {
            throw ExportFault("\(path) can't be read: \(unsafe String(cString: strerror(errno)))")
        }
        var words: [String] = []
        for line in text.split(separator: "\n") {
            let parts = line.drop(while: isBlank).split(maxSplits: 1, whereSeparator: isBlank)
            guard let name = parts.first, !name.hasPrefix("#") else { continue }
            guard name != "config" else { throw ExportFault("\(path) can't name another file by 'config'") }
            if name != "device" { words.append("--\(name)") }
            guard parts.count == 2 else { continue }
            var value = parts[1].drop(while: isBlank)
            while let last = value.last, isBlank(last) { value.removeLast() }
            if !value.isEmpty { words.append(String(value)) }
        }
        return words
    }

    private func isBlank(_ character: Character) -> Bool { character == " " || character == "\t" || character == "\r" }

    private func content(of path: String) -> String? {
        guard let file = unsafe fopen(path, "re") else { return nil }
        defer { unsafe fclose(file) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe fread(&piece, 1, piece.count, file)
            if count == 0 { return unsafe ferror(file) == 0 ? String(decoding: bytes, as: UTF8.self) : nil }
            bytes += piece[..<count]
        }
    }
}
