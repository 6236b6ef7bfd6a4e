/// Socket options that an end keeps for its program, four bytes each in the private block.
package enum Option: Int {
    case noDelay, keepAlive, reuseAddress, lingerOn, lingerSeconds, receiveBuffer, sendBuffer
    case keepIdle, keepInterval, keepCount, oobInline, receiveLowWater, cork, userTimeout
}

extension Endpoint {
    @inline(__always) package func option(_ option: Option) -> Int32 {
        Int32(bitPattern: block.load32(Block.options + option.rawValue * 4))
    }
    package func setOption(_ option: Option, _ value: Int32) {
        block.store32(Block.options + option.rawValue * 4, UInt32(bitPattern: value))
    }
}
