/// The translating header, `libskein-preload.so`, as a file.
enum Header {
    static let fileName = "libskein-preload.so"

    /// Where it lies: named by SKEIN_PRELOAD, beside this command, or installed. Nil when nowhere.
    static func find() -> String? {
        if let given = environmentVariable("SKEIN_PRELOAD") {
            return isThere(given) ? absolute(given) : nil
        }
        var places = ["/usr/lib/\(fileName)"]
        if let command = target(ofLink: "/proc/self/exe") {
            places.insert("\(folder(of: folder(of: command)))/lib/\(fileName)", at: 0)
        }
        return places.first(where: isThere)
    }

    /// What to tell someone for whom `find` found nothing.
    static var advice: String {
        if let given = environmentVariable("SKEIN_PRELOAD") {
            return "SKEIN_PRELOAD names \(given), which can't be read; correct it or unset it"
        }
        return "\(fileName) is neither in ../lib beside this command nor in /usr/lib; "
            + "install Skein again, or name the file by SKEIN_PRELOAD"
    }

    private static func isThere(_ path: String) -> Bool { (try? File(path)) != nil }

    /// LD_PRELOAD with the header first and the user's own libraries after it.
    static func preload(_ path: String, before others: String?) -> String {
        ([path] + without(others)).joined(separator: ":")
    }

    /// The user's own part of LD_PRELOAD: what an outer `skein run` put in is not it.
    static func without(_ list: String?) -> [String] {
        (list ?? "").split { $0 == ":" || $0 == " " }.map(String.init).filter { lastPart($0) != fileName }
    }
}
