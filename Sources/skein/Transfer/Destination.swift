import ArgumentParser
import Glibc
import SkeinTransfer

/// Where a receiver puts what comes.
enum Destination {
    case standardOutput
    /// Into a folder, under the sender's name.
    case folder(String)
    /// Into this file, whatever the sender calls it.
    case file(String)

    /// What the user asked for; nil is the current folder. Problems that can be seen now are said now.
    init(_ path: String?, force: Bool) throws {
        guard let path else {
            self = .folder(".")
            return
        }
        if path == "-" {
            self = .standardOutput
        } else if let status = skein.status(of: path), status.st_mode & S_IFMT == S_IFDIR {
            self = .folder(path)
        } else if path.isEmpty || path.hasSuffix("/") {
            throw failure("there is no folder '\(path)'; make it first")
        } else {
            self = .file(path)
            try Destination.refuseExisting(path, force: force)
        }
        if case .file = self, unsafe access(skein.folder(of: path), W_OK) != 0 {
            throw failure("no file can be made in \(skein.folder(of: path)): \(SystemError.last.text)")
        }
    }

    /// The target for an offer; nil is standard output.
    func target(for offer: Offer) throws(Refusal) -> String? {
        switch self {
        case .standardOutput: return nil
        case .file(let path): return path
        case .folder(let path):
            guard let name = offer.safeName else {
                let what = offer.name.isEmpty ? "has no name" : "has a name that could do harm here"
                throw Refusal(.name, "what is offered \(what): name the target by 'skein receive -o FILE'")
            }
            return path == "." ? name : "\(path)/\(name)"
        }
    }

    private static func refuseExisting(_ path: String, force: Bool) throws {
        if !force && skein.status(of: path, following: false) != nil {
            throw failure("\(path) exists; move it away, or use --force", code: Exit.exists)
        }
    }
}

extension Refusal: Error {}
