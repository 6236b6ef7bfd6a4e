import Glibc
import SkeinMedium

/// An open file or device of whole units. Any thread may read and write, into memory that begins where a unit would.
struct UnitFile: Sendable {
    let descriptor: Int32

    /// Reads from `unit` on until the memory is full. Zero, or the errno; ENODATA where the file ends before.
    func read(_ unit: UInt64, into memory: UnsafeMutableRawBufferPointer) -> Int32 {
        var done = 0
        while done < memory.count {
            let count = unsafe pread(descriptor, memory.baseAddress! + done, memory.count - done, offset(unit, done))
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return count == 0 ? ENODATA : errno }
            done += count
        }
        return 0
    }

    /// Writes all of the memory from `unit` on. Zero, or the errno.
    func write(_ unit: UInt64, from memory: UnsafeRawBufferPointer) -> Int32 {
        var done = 0
        while done < memory.count {
            let count = unsafe pwrite(descriptor, memory.baseAddress! + done, memory.count - done, offset(unit, done))
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return count == 0 ? EIO : errno }
            done += count
        }
        return 0
    }

    private func offset(_ unit: UInt64, _ done: Int) -> off_t { off_t(unit) * off_t(unitSize) + off_t(done) }
}
