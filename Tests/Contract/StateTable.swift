import Glibc

/// What a socket in one state answers; every word of it was observed on Linux TCP over loopback.
struct Answers: Sendable {
    /// Everything that poll reports, RDNORM and WRNORM left out: they go with IN and OUT.
    let revents: Events
    /// Three non-blocking reads.
    let reads: String
    /// Three non-blocking writes and the count of SIGPIPE.
    let writes: String
    /// What poll reports after those writes.
    let reventsAfterWrites: Events
    /// SO_ERROR, twice.
    let errors: String
    /// What poll reports after SO_ERROR was taken.
    let reventsAfterErrors: Events

    /// What poll must report when asked for `events`: errors and hang-ups come unasked.
    func revents(asked events: Events) -> Events {
        var full = revents
        if full.contains(.readable) { full.insert(.readNormal) }
        if full.contains(.writable) { full.insert(.writeNormal) }
        return full.intersection(events.union([.error, .hangup]))
    }
}

/// The specification: one row a state.
///
/// It was printed by `contract --print-table` on kernel TCP (Linux 6.18, loopback), and is compared with
/// whatever face runs the suite. Three rules shape it: a hang-up needs both directions ended or a reset; a
/// reset leaves what had arrived readable and then reports itself exactly once, to whichever call comes
/// first; a shutdown of our own reading side ends our reads but refuses nothing to the peer.
enum StateTable {
    struct Row: Sendable {
        let state: State
        let answers: Answers
        /// Set where the row is TCP's alone, or STP's.
        let difference: Difference?
    }

    static let rows: [Row] = {
        let tcp = read(text), stp = read(stpText)
        precondition(Set(tcp.map(\.0)).count == State.all.count, "the table has a row for each state")
        return tcp.map { state, answers in
            let reason =
                state.own == .RDWR
                ? DifferenceCases.released : stp.contains { $0.0 == state } ? DifferenceCases.refused : nil
            return Row(
                state: state, answers: answers, difference: reason.map { Difference(reason: $0, faces: [.tcp]) })
        }
            + stp.map {
                Row(
                    state: $0, answers: $1,
                    difference: Difference(reason: DifferenceCases.refused, faces: [.stp, .swift]))
            }
    }()

    private static func read(_ text: String) -> [(State, Answers)] {
        text.split(separator: "\n").map { line in
            let column = line.split(separator: " ").map(String.init)
            precondition(column.count == 9, "a row of the table has nine columns: \(line)")
            let state = State(
                own: OwnSide(rawValue: column[0])!, peer: PeerSide(rawValue: column[1])!, unread: column[2] == "data")
            let answers = Answers(
                revents: Events(named: column[3]), reads: column[4], writes: column[5],
                reventsAfterWrites: Events(named: column[6]), errors: column[7],
                reventsAfterErrors: Events(named: column[8]))
            return (state, answers)
        }
    }

    // own   peer         unread  revents               three reads           three writes                      revents then      SO_ERROR x2   revents then
    private static let text = """
        none  open         none    OUT                   EAGAIN,EAGAIN,EAGAIN  4,4,4,0xSIGPIPE                   OUT               0,0           OUT
        none  open         data    IN|OUT                data,EAGAIN,EAGAIN    4,4,4,0xSIGPIPE                   IN|OUT            0,0           IN|OUT
        none  shutRead     none    OUT                   EAGAIN,EAGAIN,EAGAIN  4,4,4,0xSIGPIPE                   OUT               0,0           OUT
        none  shutRead     data    IN|OUT                data,EAGAIN,EAGAIN    4,4,4,0xSIGPIPE                   IN|OUT            0,0           IN|OUT
        none  halfClosed   none    IN|OUT|RDHUP          end,end,end           4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        none  halfClosed   data    IN|OUT|RDHUP          data,end,end          4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        none  shutBoth     none    IN|OUT|RDHUP          end,end,end           4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        none  shutBoth     data    IN|OUT|RDHUP          data,end,end          4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        none  closed       none    IN|OUT|RDHUP          end,end,end           4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        none  closed       data    IN|OUT|RDHUP          data,end,end          4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        none  reset        none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        none  reset        data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        none  linger       none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        none  linger       data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        none  endReset     none    IN|OUT|ERR|HUP|RDHUP  end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        none  endReset     data    IN|OUT|ERR|HUP|RDHUP  data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        none  endLinger    none    IN|OUT|ERR|HUP|RDHUP  end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        none  endLinger    data    IN|OUT|ERR|HUP|RDHUP  data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        none  killed       none    IN|OUT|RDHUP          end,end,end           4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        none  killed       data    IN|OUT|RDHUP          data,end,end          4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        none  killedReset  none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        none  killedReset  data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RD    open         none    IN|OUT|RDHUP          end,end,end           4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        RD    open         data    IN|OUT|RDHUP          data,end,end          4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        RD    shutRead     none    IN|OUT|RDHUP          end,end,end           4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        RD    shutRead     data    IN|OUT|RDHUP          data,end,end          4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        RD    halfClosed   none    IN|OUT|RDHUP          end,end,end           4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        RD    halfClosed   data    IN|OUT|RDHUP          data,end,end          4,4,4,0xSIGPIPE                   IN|OUT|RDHUP      0,0           IN|OUT|RDHUP
        RD    shutBoth     none    IN|OUT|RDHUP          end,end,end           4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        RD    shutBoth     data    IN|OUT|RDHUP          data,end,end          4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        RD    closed       none    IN|OUT|RDHUP          end,end,end           4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        RD    closed       data    IN|OUT|RDHUP          data,end,end          4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        RD    reset        none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RD    reset        data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RD    linger       none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RD    linger       data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RD    endReset     none    IN|OUT|ERR|HUP|RDHUP  end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        RD    endReset     data    IN|OUT|ERR|HUP|RDHUP  data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        RD    endLinger    none    IN|OUT|ERR|HUP|RDHUP  end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        RD    endLinger    data    IN|OUT|ERR|HUP|RDHUP  data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  EPIPE,0       IN|OUT|HUP|RDHUP
        RD    killed       none    IN|OUT|RDHUP          end,end,end           4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        RD    killed       data    IN|OUT|RDHUP          data,end,end          4,EPIPE,EPIPE,2xSIGPIPE           IN|OUT|HUP|RDHUP  0,0           IN|OUT|RDHUP
        RD    killedReset  none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RD    killedReset  data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        WR    open         none    OUT                   EAGAIN,EAGAIN,EAGAIN  EPIPE,EPIPE,EPIPE,3xSIGPIPE       OUT               0,0           OUT
        WR    open         data    IN|OUT                data,EAGAIN,EAGAIN    EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT            0,0           IN|OUT
        WR    shutRead     none    OUT                   EAGAIN,EAGAIN,EAGAIN  EPIPE,EPIPE,EPIPE,3xSIGPIPE       OUT               0,0           OUT
        WR    shutRead     data    IN|OUT                data,EAGAIN,EAGAIN    EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT            0,0           IN|OUT
        WR    halfClosed   none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    halfClosed   data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    shutBoth     none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    shutBoth     data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    closed       none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    closed       data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    reset        none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        WR    reset        data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        WR    linger       none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        WR    linger       data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        WR    endReset     none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    endReset     data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    endLinger    none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    endLinger    data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    killed       none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    killed       data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        WR    killedReset  none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        WR    killedReset  data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RDWR  open         none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  open         data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  shutRead     none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  shutRead     data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  halfClosed   none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  halfClosed   data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  shutBoth     none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  shutBoth     data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  closed       none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  closed       data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  reset        none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RDWR  reset        data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RDWR  linger       none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RDWR  linger       data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RDWR  endReset     none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  endReset     data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  endLinger    none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  endLinger    data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  killed       none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  killed       data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RDWR  killedReset  none    IN|OUT|ERR|HUP|RDHUP  ECONNRESET,end,end    ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        RDWR  killedReset  data    IN|OUT|ERR|HUP|RDHUP  data,ECONNRESET,end   ECONNRESET,EPIPE,EPIPE,2xSIGPIPE  IN|OUT|HUP|RDHUP  ECONNRESET,0  IN|OUT|HUP|RDHUP
        """

    /// STP's own rows, printed by the C calls. With both reading sides shut, both directions have ended.
    private static let stpText = """
        none  shutRead     none    OUT                   EAGAIN,EAGAIN,EAGAIN  EPIPE,EPIPE,EPIPE,3xSIGPIPE       OUT               0,0           OUT
        none  shutRead     data    IN|OUT                data,EAGAIN,EAGAIN    EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT            0,0           IN|OUT
        RD    shutRead     none    IN|OUT|HUP|RDHUP      end,end,end           EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        RD    shutRead     data    IN|OUT|HUP|RDHUP      data,end,end          EPIPE,EPIPE,EPIPE,3xSIGPIPE       IN|OUT|HUP|RDHUP  0,0           IN|OUT|HUP|RDHUP
        """
}
