import SkeinConduit

/// A mistake on purpose (docs/PLANTED.md), made to the frames that a simulated end sends, or by its programs.
enum Planted: String, CaseIterable {
    /// Says that a program has read what has only arrived.
    case earlyAcknowledgement = "early-acknowledgement"
    /// Sends a piece of data twice.
    case doubledData = "doubled-data"
    /// Sends two pieces of a filament's data in the wrong order.
    case swappedData = "swapped-data"
    /// Leaves out some credits.
    case lostCredit = "lost-credit"
    /// Leaves out some ends.
    case lostEnd = "lost-end"
    /// Leaves out some resets.
    case lostReset = "lost-reset"
    /// Takes more of the receiver's pool than there is.
    case falsePool = "false-pool"
    /// Lets small messages take their turn behind bulk data.
    case noPriority = "no-priority"
}

/// Changes the blocks of one direction as a planted bug would.
struct Saboteur {
    let planted: Planted
    /// Frames that were sent, for their numbers.
    private var sequence: UInt64 = 0
    /// Bytes of data that came the other way, by filament.
    private var arrived: [UInt32: UInt64] = [:]

    init(_ planted: Planted) { self.planted = planted }

    /// Sees what the other direction brings.
    mutating func watch(_ block: [UInt8]) {
        for frame in Saboteur.frames(block) {
            if frame[1] == FrameType.open.rawValue { arrived[filament(frame)] = 0 }
            if frame[1] == FrameType.data.rawValue { arrived[filament(frame), default: 0] += UInt64(frame.count - 24) }
        }
    }

    mutating func spoil(_ block: [UInt8], _ random: inout Random) -> [UInt8] {
        var frames: [[UInt8]] = []
        for frame in Saboteur.frames(block) {
            guard let type = FrameType(rawValue: frame[1]) else { preconditionFailure("ends send known types") }
            switch (planted, type) {
            case (.earlyAcknowledgement, .credit):
                frames.append(frame)
                write(min(arrived[filament(frame)] ?? 0, word(frame, 32)), at: 24, of: &frames[frames.count - 1])
            case (.doubledData, .data) where random.once(in: 50): frames += [frame, frame]
            case (.swappedData, .data):
                let isPair = frames.last.map { $0[1] == frame[1] && filament($0) == filament(frame) } ?? false
                frames.insert(frame, at: isPair ? frames.count - 1 : frames.count)
            case (.lostCredit, .credit) where random.once(in: 8): break
            case (.lostEnd, .end) where random.once(in: 8): break
            case (.lostReset, .reset) where random.once(in: 8): break
            case (.falsePool, .conduitCredit):
                frames.append(frame)
                write(word(frame, 24) + 1 << 20, at: 24, of: &frames[frames.count - 1])
            default: frames.append(frame)
            }
        }
        for index in frames.indices {
            write(sequence, at: 16, of: &frames[index])
            sequence += 1
        }
        return frames.flatMap { $0 }
    }

    private static func frames(_ block: [UInt8]) -> [[UInt8]] {
        var frames: [[UInt8]] = []
        var start = 0
        while start < block.count {
            let length = Int(block[start + 8]) | Int(block[start + 9]) << 8
            frames.append(Array(block[start..<start + 24 + length]))
            start += 24 + length
        }
        return frames
    }

    private func filament(_ frame: [UInt8]) -> UInt32 { UInt32(truncatingIfNeeded: word(frame, 4)) }

    private func word(_ frame: [UInt8], _ offset: Int) -> UInt64 {
        (0..<8).reduce(0) { $0 | UInt64(frame[offset + $1]) << UInt64(8 * $1) }
    }

    private func write(_ word: UInt64, at offset: Int, of frame: inout [UInt8]) {
        for byte in 0..<8 { frame[offset + byte] = UInt8(truncatingIfNeeded: word >> UInt64(8 * byte)) }
    }
}
