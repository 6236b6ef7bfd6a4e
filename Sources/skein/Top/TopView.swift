import Glibc

/// `skein top` on a terminal, which it leaves as it was, however it ends (but for SIGKILL).
struct TopView: ~Copyable {
    private let screen: Screen
    private let interval: Double
    private let signals: SignalQueue
    private var sort: SortKey
    private var isReversed = false
    private var earlier: Sample?
    private var activity: Activity

    init(_ screen: Screen, interval: Double, sort: SortKey) throws {
        self.screen = screen
        self.interval = interval
        self.sort = sort
        do {
            signals = try SignalQueue([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH])
        } catch {
            throw failure("signals can't be waited for: \(error.text)")
        }
        let sample = Sample.take()
        earlier = sample
        activity = sample.activity(since: nil)
    }

    private enum Event { case interval, key(UInt8), signal(Int32), end }

    /// Until q is pressed, the terminal is gone, or a signal ends the process.
    mutating func run() throws {
        do {
            try screen.enter()
            defer { screen.leave() }
            try show()
            var next = secondsNow() + interval
            while true {
                switch wait(until: next) {
                case .interval:
                    look()
                    next = secondsNow() + interval
                case .key(UInt8(ascii: "q")), .key(UInt8(ascii: "Q")), .end: return
                case .key(let letter): press(letter)
                case .signal(let signal): try handle(signal)
                }
                try show()
            }
        } catch {
            throw failure("the terminal can't be written to: \(error.text)")
        }
    }

    private mutating func look() {
        let sample = Sample.take()
        activity = sample.activity(since: earlier)
        earlier = sample
    }

    private mutating func press(_ letter: UInt8) {
        if let key = SortKey(letter: letter) {
            sort = key
        } else if letter == UInt8(ascii: "r") {
            isReversed.toggle()
        }
    }

    private func handle(_ signal: Int32) throws(SystemError) {
        switch signal {
        case SIGWINCH: break
        // After a stop, whoever was in front meanwhile may have changed the terminal.
        case SIGCONT: try screen.enter()
        default:
            screen.leave()
            SignalQueue.obey(signal)
            // SIGTSTP alone comes back.
            try screen.enter()
        }
    }

    private func wait(until next: Double) -> Event {
        var items = [
            pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0),
            pollfd(fd: signals.descriptor, events: Int16(POLLIN), revents: 0),
        ]
        let milliseconds = max((next - secondsNow()) * 1000, 0).rounded(.up)
        _ = unsafe poll(&items, 2, Int32(milliseconds))
        if let signal = signals.next() { return .signal(signal) }
        if items[0].revents == 0 { return .interval }
        var key: UInt8 = 0
        return unsafe read(STDIN_FILENO, &key, 1) == 1 ? .key(key) : .end
    }

    private func show() throws(SystemError) {
        var shown = activity
        shown.sockets = sort.sorted(activity.sockets, reversed: isReversed)
        let size = screen.size
        let keys = "q quit  sort: t traffic, w waiting, b bells, s spins, p pid, n name; r reverse"
        let order = "every \(interval) s, by \(sort.rawValue)\(isReversed ? ", reversed" : "")"
        let above =
            ["skein top  \(order)  \(keys)"] + shown.heading
            + activity.survey.warnings.prefix(2).map { "warning: \($0)" } + [""]
        let table = shown.table(width: size.columns, rows: size.rows - above.count)
        try screen.show(above + table, head: above.count, size: size)
    }
}
