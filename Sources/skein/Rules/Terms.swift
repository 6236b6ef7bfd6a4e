import ArgumentParser
import SkeinCore

/// Ports and addresses as `--only` and `--not` take them.
struct Terms {
    let text: String

    init(_ text: String) throws {
        var message: String?
        var scratch = RuleSet()
        scratch.set(.only, Array(text.utf8).span, nil) { kind, word in
            message = message ?? "'\(word.string)' \(kind.text)"
        }
        if let message { throw ValidationError(message) }
        self.text = text
    }
}
