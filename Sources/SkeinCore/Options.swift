/// Socket options that an end keeps for its program, four bytes each in the private block.
package enum Option: Int {
    case noDelay, keepAlive, reuseAddress, lingerOn, lingerSeconds, receiveBuffer, sendBuffer
    case keepIdle, keepInterval, keepCount, oobInline, receiveLowWater, cork, userTimeout

    package static let count = 14
}

extension Endpoint {
    @inline(__always) package func option(_ option: Option) -> Int32 {
        Int32(bitPattern: block.load32(Block.options + option.rawValue * 4))
    }
    package func setOption(_ option: Option, _ value: Int32) {
        block.store32(Block.options + option.rawValue * 4, UInt32(bitPattern: value))
    }
}

/// Options that mean nothing in memory and are given back as they were set: TOS, TTL, priority.
package struct OtherOptions {
    private var names: InlineArray<8, Int32> = InlineArray(repeating: 0)
    private var levels: InlineArray<8, Int32> = InlineArray(repeating: 0)
    private var values: InlineArray<8, Int32> = InlineArray(repeating: 0)
    private var count = 0

    package init() {}

    package mutating func set(_ level: Int32, _ name: Int32, _ value: Int32) {
        for index in 0..<count where levels[index] == level && names[index] == name {
            values[index] = value
            return
        }
        guard count < 8 else { return }
        levels[count] = level
        names[count] = name
        values[count] = value
        count += 1
    }

    package func forEach(_ body: (_ level: Int32, _ name: Int32, _ value: Int32) -> Void) {
        for index in 0..<count { body(levels[index], names[index], values[index]) }
    }

    package func value(_ level: Int32, _ name: Int32) -> Int32? {
        for index in 0..<count where levels[index] == level && names[index] == name { return values[index] }
        return nil
    }
}
