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
        guard let standing = Standing(of: path) else { return }
        if let reason = standing.irreplaceable(path) { throw failure(reason, code: Exit.exists) }
        if !force { throw failure("\(path) exists; move it away, or use --force", code: Exit.exists) }
    }

    /// What stands at the target already.
    enum Standing {
        case file
        /// A device, a FIFO, a link, a folder: a file in its place would break what it is for.
        case other

        /// Nil where there is nothing.
        init?(of path: String) {
            guard let status = skein.status(of: path, following: false) else { return nil }
            self = status.st_mode & S_IFMT == S_IFREG ? .file : .other
        }

        /// Why even --force doesn't replace it; nil where it does.
        func irreplaceable(_ path: String) -> String? {
            guard self == .other else { return nil }
            return "\(path) is no ordinary file, and is not replaced; remove it, "
                + "or use '-o -' and send standard output there"
        }
    }
}

extension Refusal: Error {}
