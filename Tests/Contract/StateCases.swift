import CContract
import Glibc

/// The table of states, asked through every call that can answer.
///
/// With the first family the peer is the accepted end in this process, with the second it is a connecting child
/// process: so both roles and both placements are met without doubling the suite.
enum StateCases {
    static let cases: [Case] = Place.allCases.flatMap { place in
        StateTable.rows.flatMap { row -> [Case] in
            let cases =
                asked.map { polled(row, $0, place) } + asked.map { epolled(row, $0, place) }
                + readers.map { name, read in reading(row, name, read, place) }
                + writers.map { name, quiet, write in writing(row, name, quiet, write, place) }
                + [errors(row, place), selected(row, place)]
            guard let difference = row.difference else { return cases }
            return cases.holding(for: difference.faces, difference.reason)
        }
    }

    private static let asked: [Events] = [
        [], [.readable], [.writable], [.readable, .writable], [.peerHalfClosed],
        [.readable, .writable, .peerHalfClosed, .priority],
        [.readNormal, .readBand, .writeNormal, .writeBand],
    ]

    private static let readers: [(String, @Sendable (Sock) -> Received)] = [
        ("read", { $0.read() }),
        ("recv", { $0.recv() }),
        ("recvfrom", { $0.recvfrom() }),
        ("recvmsg", { $0.recvmsg() }),
        ("readv", { $0.readv() }),
        ("recv with MSG_WAITALL|MSG_DONTWAIT", { $0.recv(4096, Msg.waitAll | Msg.dontWait) }),
    ]

    /// The second word says that MSG_NOSIGNAL keeps SIGPIPE away.
    private static let writers: [(String, Bool, @Sendable (Sock) -> Outcome)] = [
        ("write", false, { $0.write("data") }),
        ("send", false, { $0.send("data") }),
        ("sendmsg", false, { $0.sendmsg("data") }),
        ("writev", false, { $0.writev(["da", "ta"]) }),
        ("send with MSG_NOSIGNAL", true, { $0.send("data", Msg.noSignal) }),
        ("sendmsg with MSG_NOSIGNAL", true, { $0.sendmsg("data", Msg.noSignal) }),
    ]

    /// Brings a socket into the state, waits until it is there, and then asks one question of it.
    private static func asking(
        _ row: StateTable.Row, _ place: Place, _ question: String,
        _ body: @escaping @Sendable (Sock, Answers) throws -> Void
    ) -> Case {
        let setting = Setting(family: place == .here ? .first : .second, words: place.words)
        return Case("\(question) when it has \(row.state.words)", setting) { face in
            let stage = try Stage(row.state, face, face.family(setting.family), place)
            let revents = row.answers.revents
            try expect(stage.subject.settle(revents), revents, "poll for everything, before the question")
            try body(stage.subject, row.answers)
            withExtendedLifetime(stage) {}
        }
    }

    private static func polled(_ row: StateTable.Row, _ events: Events, _ place: Place) -> Case {
        let expected = row.answers.revents(asked: events)
        return asking(row, place, "poll for \(events) reports \(expected)") { sock, _ in
            try expect(sock.poll(events), expected)
            try expect(sock.poll(events), expected, "the same again")
        }
    }

    private static func epolled(_ row: StateTable.Row, _ events: Events, _ place: Place) -> Case {
        let expected = row.answers.revents(asked: events)
        return asking(row, place, "epoll_wait for \(events) reports \(expected)") { sock, _ in
            let set = try EpollSet(sock.face)
            try expect(set.add(sock, events, data: 7), 0)
            let wanted = expected.isEmpty ? [] : [Ready(events: expected, data: 7)]
            try expect(set.wait(), wanted)
            try expect(set.wait(), wanted, "the same again")
        }
    }

    private static func reading(
        _ row: StateTable.Row, _ name: String, _ read: @escaping @Sendable (Sock) -> Received, _ place: Place
    ) -> Case {
        asking(row, place, "\(name), three times, gives \(row.answers.reads)") { sock, answers in
            try expect(threeReads(sock, read), answers.reads)
        }
    }

    private static func writing(
        _ row: StateTable.Row, _ name: String, _ quiet: Bool, _ write: @escaping @Sendable (Sock) -> Outcome,
        _ place: Place
    ) -> Case {
        let expected = quiet ? row.answers.writes.replacingSignalCount : row.answers.writes
        return asking(row, place, "\(name), three times, gives \(expected)") { sock, answers in
            try expect(threeWrites(sock, errorFollows: expected.hasPrefix("4,EPIPE"), write), expected)
            try expect(sock.settle(answers.reventsAfterWrites), answers.reventsAfterWrites, "poll afterwards")
        }
    }

    private static func errors(_ row: StateTable.Row, _ place: Place) -> Case {
        asking(row, place, "SO_ERROR, twice, gives \(row.answers.errors)") { sock, answers in
            try expect(twoErrors(sock), answers.errors)
            try expect(
                sock.poll([.readable, .writable, .priority, .peerHalfClosed]), answers.reventsAfterErrors,
                "poll afterwards")
        }
    }

    /// select's sets by the kernel's rule: readable on IN, HUP or ERR; writable on OUT or ERR; exceptional on PRI alone.
    private static func selected(_ row: StateTable.Row, _ place: Place) -> Case {
        let revents = row.answers.revents
        var expected: Selected = []
        if !revents.isDisjoint(with: [.readable, .hangup, .error]) { expected.insert(.read) }
        if !revents.isDisjoint(with: [.writable, .error]) { expected.insert(.write) }
        return asking(row, place, "select reports \(expected)") { [expected] sock, _ in
            try expect(select(sock, [.read, .write, .exceptional]).ready, expected)
        }
    }
}

extension String {
    fileprivate var replacingSignalCount: String {
        prefix { $0 != "x" }.dropLast() + "0xSIGPIPE"
    }
}
