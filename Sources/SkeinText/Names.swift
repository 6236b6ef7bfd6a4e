/// What to say of a first word that is the name of no sub-command; nil where it is one, an option, or nothing. The
/// argument parser alone would call it an unexpected argument.
package func unknownSubcommand(_ word: String?, among names: [String]) -> String? {
    guard let word, !word.isEmpty, !word.hasPrefix("-") else { return nil }
    let names = names + ["help"]
    if names.contains(word) { return nil }
    let nearest = names.map { (name: $0, changes: word.difference(from: $0).count) }.min { $0.changes < $1.changes }
    let meant = nearest.map { $0.changes <= 3 ? " Did you mean '\($0.name)'?" : "" } ?? ""
    return "There is no sub-command '\(word)'.\(meant)"
}
