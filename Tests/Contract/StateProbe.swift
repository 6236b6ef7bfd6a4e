import CContract
import Glibc

/// Prints the table for `StateTable.text`, as this face answers now.
func printStateTable(_ face: Face) {
    let asked: Events = [.readable, .priority, .writable, .peerHalfClosed]
    for state in State.all {
        /// Each question may change the state, so each is asked of a fresh socket.
        func fresh<Result>(_ question: (Sock) throws -> Result) throws -> Result {
            let stage = try Stage(state, face, face.families[0], .here)
            pause(milliseconds: 20)
            let result = try question(stage.subject)
            stage.child?.kill()
            stage.subject.close()
            stage.peer?.close()
            return result
        }
        do {
            let revents = try fresh { $0.poll(asked) }
            let reads = try fresh { try threeReads($0) { $0.read() } }
            let (writes, after) = try fresh { sock in
                let writes = try threeWrites(sock, errorFollows: false) { sock in
                    let result = sock.write("data")
                    pause(milliseconds: 5)
                    return result
                }
                return (writes, sock.poll(asked))
            }
            let (errors, afterErrors) = try fresh { (twoErrors($0), $0.poll(asked)) }
            let unread = state.unread ? "data" : "none"
            let columns = [
                state.own.rawValue, state.peer.rawValue, unread, "\(revents)", reads, writes, "\(after)", errors,
                "\(afterErrors)",
            ]
            let widths = [5, 12, 5, 22, 21, 33, 17, 13, 0]
            let line = zip(columns, widths).map { text, width in
                text + String(repeating: " ", count: max(1, width - text.count))
            }.joined()
            print("        " + line.dropLast())
        } catch {
            print("# \(state): \(error)")
        }
    }
}
