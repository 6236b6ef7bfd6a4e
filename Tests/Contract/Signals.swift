import CContract
import Glibc

/// Counts the deliveries of one signal.
enum SignalCount {
    /// Written by the handler alone; a case reads it after the call that the signal met has returned.
    nonisolated(unsafe) private static var count: Int32 = 0

    static func start(_ number: Int32, flags: Int32) {
        count = 0
        cx_handle_signal(number, { _ in SignalCount.count += 1 }, flags)
    }

    static var value: Int32 { count }

    /// Waits until it has come at least so often.
    static func wait(for number: Int32) throws {
        let deadline = seconds() + 5
        while value < number && seconds() < deadline { pause(milliseconds: 1) }
        try expect(value >= number, "\(number) signals", got: "\(value)")
    }
}
