import Glibc

/// The whole of a terminal: lines drawn over each other, on the terminal's second screen, and keys as they are
/// pressed. What the terminal showed and how it took keys come back with `leave`.
struct Screen {
    private let before: termios

    /// Nil where standard input and output are no terminal that can place its cursor.
    init?() {
        var settings = termios()
        guard isatty(STDOUT_FILENO) != 0, unsafe tcgetattr(STDIN_FILENO, &settings) == 0,
            let kind = environmentVariable("TERM"), kind != "dumb"
        else { return nil }
        before = settings
    }

    /// Takes the terminal.
    func enter() throws(SystemError) {
        var settings = before
        settings.c_lflag &= ~tcflag_t(ICANON | ECHO)
        _ = unsafe tcsetattr(STDIN_FILENO, TCSADRAIN, &settings)
        // The second screen, no cursor; a line that is too long is cut, not broken.
        try write("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[2J")
    }

    /// Gives it back.
    func leave() {
        try? write("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l")
        var settings = before
        _ = unsafe tcsetattr(STDIN_FILENO, TCSADRAIN, &settings)
    }

    /// Its size now; what is usual where it doesn't tell.
    var size: (rows: Int, columns: Int) {
        var size = winsize()
        guard unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 0, size.ws_col > 0 else {
            return (24, 80)
        }
        return (Int(size.ws_row), Int(size.ws_col))
    }

    /// Shows the lines from the top on, as many as there is room for; `head` is the one that stands out.
    func show(_ lines: [String], head: Int, size: (rows: Int, columns: Int)) throws(SystemError) {
        var frame = "\u{1b}[H"
        for (index, line) in lines.prefix(size.rows).enumerated() {
            if index > 0 { frame += "\r\n" }
            let cut = String(line.prefix(size.columns))
            frame += index == head ? "\u{1b}[7m\(cut)\u{1b}[0m" : cut
            frame += "\u{1b}[K"
        }
        try write(frame + "\u{1b}[J")
    }

    private func write(_ text: String) throws(SystemError) { try writeAll(Array(text.utf8).span, to: STDOUT_FILENO) }
}
