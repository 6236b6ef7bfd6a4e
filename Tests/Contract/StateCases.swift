import CContract
import Glibc

/// The table of states, asked through every call that can answer.
///
/// Over IPv4 the peer is the accepted end in this process, over IPv6 it is a connecting child process: so
/// both roles and both placements are met without doubling the suite.
enum StateCases {
    static let cases: [Case] = settings.flatMap { family, place in
        State.all.flatMap { state -> [Case] in
            let ending = "when it has \(state.words) (\(family), \(place.words))"
            return asked.map { polled(state, $0, ending, family, place) }
                + asked.map { epolled(state, $0, ending, family, place) }
                + readers.map { name, read in reading(state, name, read, ending, family, place) }
                + writers.map { name, quiet, write in writing(state, name, quiet, write, ending, family, place) }
                + [errors(state, ending, family, place), selected(state, ending, family, place)]
        }
    }

    private static let settings: [(Family, Place)] = [(.v4, .here), (.v6, .elsewhere)]

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
    private static func with(
        _ state: State, _ face: Face, _ family: Family, _ place: Place, _ body: (Sock, Answers) throws -> Void
    ) throws {
        let answers = StateTable.answers[state]!
        let stage = try Stage(state, face, family, place)
        try expect(stage.subject.settle(answers.revents), answers.revents, "poll for everything, before the question")
        try body(stage.subject, answers)
        withExtendedLifetime(stage) {}
    }

    private static func polled(
        _ state: State, _ events: Events, _ ending: String, _ family: Family, _ place: Place
    ) -> Case {
        let expected = StateTable.answers[state]!.revents(asked: events)
        return Case("poll for \(events) reports \(expected) \(ending)") { face in
            try with(state, face, family, place) { sock, _ in
                try expect(sock.poll(events), expected)
                try expect(sock.poll(events), expected, "the same again")
            }
        }
    }

    private static func epolled(
        _ state: State, _ events: Events, _ ending: String, _ family: Family, _ place: Place
    ) -> Case {
        let expected = StateTable.answers[state]!.revents(asked: events)
        return Case("epoll_wait for \(events) reports \(expected) \(ending)") { face in
            try with(state, face, family, place) { sock, _ in
                let set = try EpollSet(face)
                try expect(set.add(sock, events, data: 7), 0)
                let wanted = expected.isEmpty ? [] : [Ready(events: expected, data: 7)]
                try expect(set.wait(), wanted)
                try expect(set.wait(), wanted, "the same again")
            }
        }
    }

    private static func reading(
        _ state: State, _ name: String, _ read: @escaping @Sendable (Sock) -> Received, _ ending: String,
        _ family: Family, _ place: Place
    ) -> Case {
        Case("\(name), three times, gives \(StateTable.answers[state]!.reads) \(ending)") { face in
            try with(state, face, family, place) { sock, answers in
                try expect(threeReads(sock, read), answers.reads)
            }
        }
    }

    private static func writing(
        _ state: State, _ name: String, _ quiet: Bool, _ write: @escaping @Sendable (Sock) -> Outcome,
        _ ending: String, _ family: Family, _ place: Place
    ) -> Case {
        var expected = StateTable.answers[state]!.writes
        if quiet { expected = expected.replacingSignalCount }
        return Case("\(name), three times, gives \(expected) \(ending)") { [expected] face in
            try with(state, face, family, place) { sock, answers in
                try expect(threeWrites(sock, errorFollows: expected.hasPrefix("4,EPIPE"), write), expected)
                try expect(sock.settle(answers.reventsAfterWrites), answers.reventsAfterWrites, "poll afterwards")
            }
        }
    }

    private static func errors(_ state: State, _ ending: String, _ family: Family, _ place: Place) -> Case {
        Case("SO_ERROR, twice, gives \(StateTable.answers[state]!.errors) \(ending)") { face in
            try with(state, face, family, place) { sock, answers in
                try expect(twoErrors(sock), answers.errors)
                try expect(
                    sock.poll([.readable, .writable, .priority, .peerHalfClosed]), answers.reventsAfterErrors,
                    "poll afterwards")
            }
        }
    }

    /// select's sets by the kernel's rule: readable on IN, HUP or ERR; writable on OUT or ERR; exceptional on PRI alone.
    private static func selected(_ state: State, _ ending: String, _ family: Family, _ place: Place) -> Case {
        let revents = StateTable.answers[state]!.revents
        var expected: Selected = []
        if !revents.isDisjoint(with: [.readable, .hangup, .error]) { expected.insert(.read) }
        if !revents.isDisjoint(with: [.writable, .error]) { expected.insert(.write) }
        return Case("select reports \(expected) \(ending)") { [expected] face in
            try with(state, face, family, place) { sock, _ in
                try expect(select(sock, [.read, .write, .exceptional]).ready, expected)
            }
        }
    }
}

extension String {
    fileprivate var replacingSignalCount: String {
        prefix { $0 != "x" }.dropLast() + "0xSIGPIPE"
    }
}
