import CSystem

/// A seccomp filter, run here over calls that nobody makes: what it would say to them.
///
/// The program is the caller's memory, which the kernel checks only later: nothing in it is trusted.
@safe
package struct SystemCallFilter {
    private let steps: UnsafePointer<UInt64>?
    private let count: Int

    /// From a `struct sock_fprog`; nil is the strict mode, which lets nothing through that we need.
    package init(program: UnsafeRawPointer?) {
        guard let program = unsafe program else {
            unsafe steps = nil
            count = 0
            return
        }
        count = Int(unsafe program.loadUnaligned(as: UInt16.self))
        unsafe steps = unsafe program.loadUnaligned(fromByteOffset: 8, as: UnsafePointer<UInt64>?.self)
    }

    /// A call by its number and those of its arguments that filters may look at.
    package struct Call {
        let number: Int32
        let arguments: InlineArray<4, UInt64>

        package init(
            _ number: Int32, _ first: UInt64 = 0, _ second: UInt64 = 0, _ third: UInt64 = 0, _ fourth: UInt64 = 0
        ) {
            self.number = number
            arguments = [first, second, third, fourth]
        }
    }

    package enum Answer: UInt8 { case allows, fails, ends }

    /// What becomes of who makes the call: it is made, it fails, or who makes it is killed, stopped or signalled.
    package func answer(_ call: Call) -> Answer {
        switch run(call) >> 16 {
        case 0x7fff, 0x7ffc /* SECCOMP_RET_ALLOW, _LOG */: .allows
        case 0x0005 /* SECCOMP_RET_ERRNO */: .fails
        default: .ends
        }
    }

    private static var architecture: UInt32 {
        #if arch(x86_64)
            0xc000_003e
        #else
            0xc000_00b7
        #endif
    }

    /// The filter's result; 0, which kills, where it makes no sense.
    private func run(_ call: Call) -> UInt32 {
        var data = InlineArray<16, UInt32>(repeating: 0)
        data[0] = UInt32(bitPattern: call.number)
        data[1] = SystemCallFilter.architecture
        for index in 0..<4 {
            data[4 + 2 * index] = UInt32(truncatingIfNeeded: call.arguments[index])
            data[5 + 2 * index] = UInt32(truncatingIfNeeded: call.arguments[index] >> 32)
        }
        var machine = Machine(data: data)
        var place = 0
        while let steps = unsafe steps, place < count {
            let step = unsafe steps[place]
            let code = UInt16(truncatingIfNeeded: step)
            let constant = UInt32(truncatingIfNeeded: step >> 32)
            place += 1
            switch code & 7 {
            case 5:
                place += machine.jump(
                    code, constant, whenTrue: UInt8(truncatingIfNeeded: step >> 16),
                    whenFalse: UInt8(truncatingIfNeeded: step >> 24))
            case 6: return code & 0x18 == 0x10 ? machine.accumulator : constant
            default: if !machine.compute(code, constant) { return 0 }
            }
        }
        return 0
    }
}

/// The registers of the classic packet filter, by the part of its language that seccomp allows.
private struct Machine {
    let data: InlineArray<16, UInt32>
    var accumulator: UInt32 = 0
    private var index: UInt32 = 0
    private var memory = InlineArray<16, UInt32>(repeating: 0)

    init(data: InlineArray<16, UInt32>) { self.data = data }

    /// How many steps to skip.
    func jump(_ code: UInt16, _ constant: UInt32, whenTrue: UInt8, whenFalse: UInt8) -> Int {
        let operand = code & 8 != 0 ? index : constant
        let holds: Bool
        switch code & 0xf0 {
        case 0x00: return Int(constant)
        case 0x10: holds = accumulator == operand
        case 0x20: holds = accumulator > operand
        case 0x30: holds = accumulator >= operand
        default: holds = accumulator & operand != 0
        }
        return Int(holds ? whenTrue : whenFalse)
    }

    /// A load, a store, a move or arithmetic. False for what seccomp doesn't know.
    mutating func compute(_ code: UInt16, _ constant: UInt32) -> Bool {
        let cell = Int(constant)
        switch code {
        case 0x20 where constant & 3 == 0 && cell / 4 < 16: accumulator = data[cell / 4]
        case 0x00: accumulator = constant
        case 0x01: index = constant
        case 0x80: accumulator = 64
        case 0x81: index = 64
        case 0x60 where cell < 16: accumulator = memory[cell]
        case 0x61 where cell < 16: index = memory[cell]
        case 0x02 where cell < 16: memory[cell] = accumulator
        case 0x03 where cell < 16: memory[cell] = index
        case 0x07: index = accumulator
        case 0x87: accumulator = index
        case 0x84: accumulator = 0 &- accumulator
        default: return code & 7 == 4 && calculate(code & 0xf0, code & 8 != 0 ? index : constant)
        }
        return true
    }

    private mutating func calculate(_ operation: UInt16, _ operand: UInt32) -> Bool {
        switch operation {
        case 0x00: accumulator = accumulator &+ operand
        case 0x10: accumulator = accumulator &- operand
        case 0x20: accumulator = accumulator &* operand
        case 0x30 where operand != 0: accumulator /= operand
        case 0x40: accumulator |= operand
        case 0x50: accumulator &= operand
        case 0x60: accumulator = operand < 32 ? accumulator << operand : 0
        case 0x70: accumulator = operand < 32 ? accumulator >> operand : 0
        case 0xa0: accumulator ^= operand
        default: return false
        }
        return true
    }
}
