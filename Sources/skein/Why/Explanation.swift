import SkeinText

/// How one descriptor of a process stands.
struct Explanation {
    /// What its bytes go through.
    enum Carrier: String {
        case memory, tcp
        /// A process of Skein's, which carries them on shared memory.
        case relay
    }

    let descriptor: Int32
    /// Nil where that is not decided yet, and for what is no stream socket.
    let carrier: Carrier?
    /// Says so, why, and what to do.
    let sentence: String

    var text: String { "\(descriptor): \(sentence)" }

    /// An object for scripts. Its names stay; new ones may be added.
    var json: String {
        let carrier = self.carrier.map { quoted($0.rawValue) } ?? "null"
        return "{\"fd\":\(descriptor),\"carrier\":\(carrier),\"explanation\":\(quoted(sentence))}"
    }
}
