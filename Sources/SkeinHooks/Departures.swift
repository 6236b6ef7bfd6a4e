import CSystem

/// The connections that a program which is being started inherits: for each of their numbers a relay's stream, to be put in
/// its place, and the gate at which the relay waits until the program is there.
@safe
struct Departures {
    private struct Departure {
        var number: Int32
        /// -1 where no relay could be had.
        var stream: Int32
        /// Its entry in the table.
        var word: UInt
    }

    /// What each takes of the memory.
    static let words = 2
    private let list: UnsafeMutablePointer<Departure>
    /// Another thread may make more ends meanwhile.
    private let room: Int
    private(set) var count = 0
    private let gate: Gate?

    init(_ memory: UnsafeMutableRawPointer, room: Int) {
        unsafe list = unsafe memory.bindMemory(to: Departure.self, capacity: room)
        self.room = room
        gate = room > 0 ? Gate() : nil
    }

    /// The new program is to get a stream under this number.
    mutating func leave(_ number: Int32) {
        let word = listed(number)
        guard count < room, kind(word) == .endpoint else { return }
        unsafe list[count] = Departure(number: number, stream: stream(for: number, word), word: word)
        count += 1
    }

    /// Several numbers of one end share one.
    private func stream(for number: Int32, _ word: UInt) -> Int32 {
        for index in 0..<count where unsafe list[index].word == word && list[index].stream >= 0 {
            return unsafe list[index].stream
        }
        guard let gate, let stream = handOver(number, gate: gate.inner) else { return -1 }
        if sk_is_single_threaded() != 0 { return stream }
        // Above the numbers that other threads close: this may be one that is still to be replaced.
        let hidden = hiddenCopy(of: stream)
        if hidden < 0 { return stream }
        _ = sk_close(stream)
        return hidden
    }

    /// Each number with its stream, -1 where there is none.
    func forEach(_ body: (_ number: Int32, _ stream: Int32) -> Void) {
        for index in 0..<count { unsafe body(list[index].number, list[index].stream) }
    }

    /// The program has been started, or won't be.
    func finish(_ word: UInt8) {
        for index in 0..<count where unsafe list[index].stream >= 0 && first(index) == index {
            _ = unsafe sk_close(list[index].stream)
        }
        gate?.say(word)
    }

    /// The first number with the same stream.
    private func first(_ index: Int) -> Int {
        for earlier in 0..<index where unsafe list[earlier].stream == list[index].stream { return earlier }
        return index
    }
}

// MARK: In the place of connections, for exec

extension Departures {
    /// In a thread whose descriptors are its own.
    func takePlaces() {
        for number in 0..<Int32(programEnd) where isLeaving(number) {
            // Better none than one that says nothing but end of file.
            _ = sk_fcntl(number, F_SETFD, 1)
        }
        forEach { number, stream in if stream >= 0 { _ = sk_dup3(stream, number, 0) } }
    }

    /// On the program's own descriptors: what was under a number is then under its stream's.
    func exchange() {
        for index in 0..<count where !exchange(index) { _ = unsafe sk_fcntl(list[index].number, F_SETFD, 1) }
    }

    private func exchange(_ index: Int) -> Bool {
        let departure = unsafe list[index]
        if departure.stream < 0 { return false }
        let first = first(index)
        if first != index { return unsafe sk_dup3(list[first].number, departure.number, 0) >= 0 }
        let original = hiddenCopy(of: departure.number)
        guard original >= 0 else {
            _ = sk_close(departure.stream)
            unsafe list[index].stream = -1
            return false
        }
        _ = sk_dup3(departure.stream, departure.number, 0)
        _ = sk_dup3(original, departure.stream, Flag.closeOnExec)
        _ = sk_close(original)
        return true
    }

    /// Undoes that.
    func exchangeBack() {
        forEach { number, original in
            if original >= 0 { _ = sk_dup3(original, number, 0) } else { _ = sk_fcntl(number, F_SETFD, 0) }
        }
    }
}

/// Whether a program that is executed would get an end under that number.
func isLeaving(_ number: Int32) -> Bool { kind(entry(number)) == .endpoint && isInherited(number) }
