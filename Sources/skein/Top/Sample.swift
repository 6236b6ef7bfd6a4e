import SkeinCore

/// All sockets at one moment; two of them make rates.
struct Sample {
    let survey: Survey
    /// When it was taken, on a clock that nobody sets.
    let seconds: Double

    static func take() -> Sample { Sample(survey: Survey.ofHost(), seconds: secondsNow()) }

    /// One socket of one process: a fork shares the socket, not its counters.
    private struct Identity: Hashable {
        let process: Int32
        let inode: UInt64
    }

    private static func identity(_ socket: ListedSocket) -> Identity {
        Identity(process: socket.process.identifier, inode: socket.inode)
    }

    /// What has happened since an earlier one; amounts without rates where there is none.
    func activity(since earlier: Sample?) -> Activity {
        guard let earlier else {
            return Activity(
                survey: survey, seconds: 0, sockets: survey.sockets.map { ActiveSocket(socket: $0, rates: nil) },
                newOnMemory: 0, newOverTCP: 0)
        }
        let seconds = max(self.seconds - earlier.seconds, 0.001)
        // A hostile process may repeat itself: any of its records is as good as another.
        let before = Dictionary(
            earlier.survey.sockets.map { (Sample.identity($0), $0) }, uniquingKeysWith: { first, _ in first })
        let sockets = survey.sockets.map { socket in
            ActiveSocket(socket: socket, rates: Rates(socket, before[Sample.identity(socket)], seconds: seconds))
        }
        let (sums, old) = (survey.totals, earlier.survey.totals)
        return Activity(
            survey: survey, seconds: seconds, sockets: sockets,
            newOnMemory: perSecond(old.memoryConnections, sums.memoryConnections, seconds),
            newOverTCP: perSecond(old.tcpConnections, sums.tcpConnections, seconds))
    }
}

/// What the sockets of a host did between two samples.
struct Activity {
    /// The later of the two.
    let survey: Survey
    /// Between the two; 0 where there is no earlier one.
    let seconds: Double
    var sockets: [ActiveSocket]
    /// Connections made, a second; a connection counts once for each of its ends.
    let newOnMemory: UInt64
    let newOverTCP: UInt64
}

/// A socket, and what it does; nil where only one sample has been taken.
struct ActiveSocket {
    let socket: ListedSocket
    let rates: Rates?
}

/// What a socket did a second. Nil is what nobody counts for us.
struct Rates {
    let bytesIn: UInt64?
    let bytesOut: UInt64?
    let bells: UInt64?
    let spins: UInt64?

    /// A socket that was not there before has done all of it since.
    init(_ socket: ListedSocket, _ before: ListedSocket?, seconds: Double) {
        func rate(_ counter: (ListedSocket) -> UInt64?) -> UInt64? {
            counter(socket).map { perSecond(before.flatMap(counter) ?? 0, $0, seconds) }
        }
        bytesIn = rate(\.bytesIn)
        bytesOut = rate(\.bytesOut)
        bells = rate(\.bells)
        spins = rate(\.spins)
    }
}

/// A counter that went back was begun anew, or is a lie.
private func perSecond(_ before: UInt64, _ now: UInt64, _ seconds: Double) -> UInt64 {
    let done = Double(now >= before ? now - before : now) / seconds
    return done < 0x1p63 ? UInt64(done.rounded()) : 1 << 63
}
