import CContract
import Glibc

enum Verdict {
    case passed
    case failed(String)
    case skipped(String)
}

/// Runs one case in a forked child of its own process group, so that nothing of it outlives it.
func run(_ contractCase: Case, on face: Face) -> Verdict {
    let report = Pipe()
    let pid = cx_fork()
    if pid == 0 {
        cx_die_with_parent()
        setpgid(0, 0)
        report.write(verdictText(contractCase, face))
        _exit(0)
    }
    setpgid(pid, pid)
    report.closeWriter()
    let text = report.readAll(timeoutSeconds: contractCase.watchdogSeconds)
    kill(-pid, SIGKILL)
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
    report.closeReader()
    return verdict(text, status, contractCase)
}

/// The child's side: a line that begins with `+` passed, `-` failed or `?` skipped.
private func verdictText(_ contractCase: Case, _ face: Face) -> String {
    do {
        try contractCase.body(face)
        return "+\n"
    } catch let skip as Skip {
        return "?\(skip.reason)\n"
    } catch {
        return "-\(error)\n"
    }
}

private func verdict(_ text: String?, _ status: Int32, _ contractCase: Case) -> Verdict {
    guard let text else {
        return .failed("expected an end, got none within \(contractCase.watchdogSeconds) s (watchdog)")
    }
    switch text.first {
    case "+": return .passed
    case "?": return .skipped(String(text.dropFirst()))
    case "-": return .failed(String(text.dropFirst()))
    default:
        return .failed(
            "expected a verdict, got death by signal \(cx_death_signal(status)) or exit \(cx_exit_code(status))")
    }
}

/// A pipe of the suite's own, apart from the face under test.
struct Pipe: Sendable {
    let reader: Int32
    let writer: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "no descriptors left for a pipe")
        (reader, writer) = (ends[0], ends[1])
    }

    func closeReader() { _ = Glibc.close(reader) }
    func closeWriter() { _ = Glibc.close(writer) }

    func write(_ text: String) {
        let bytes = Array(text.utf8)
        _ = Glibc.write(writer, bytes, bytes.count)
    }

    /// Up to the end of the first line or of the pipe; nil when the time ran out.
    func readAll(timeoutSeconds: Int) -> String? {
        var collected: [UInt8] = []
        let deadline = seconds() + Double(timeoutSeconds)
        while collected.last != UInt8(ascii: "\n") {
            var wait = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
            let left = deadline - seconds()
            if left <= 0 { return nil }
            if Glibc.poll(&wait, 1, Int32(left * 1000) + 1) <= 0 { continue }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = Glibc.read(reader, &bytes, bytes.count)
            if count <= 0 { return String(decoding: collected, as: UTF8.self) }
            collected += bytes.prefix(count)
        }
        return String(decoding: collected.dropLast(), as: UTF8.self)
    }

    /// One byte each way is how two processes of a case take turns.
    func signal() { write(".") }

    func takeTurn() throws {
        var byte: UInt8 = 0
        while true {
            let count = Glibc.read(reader, &byte, 1)
            if count == 1 { return }
            if count < 0 && errno == EINTR { continue }
            throw Mismatch(expected: "a turn from the other process", got: "its end", "")
        }
    }
}

func seconds() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}

func pause(milliseconds: UInt32) {
    let end = seconds() + Double(milliseconds) / 1000
    while seconds() < end { usleep(useconds_t(max(1, (end - seconds()) * 1e6))) }
}
