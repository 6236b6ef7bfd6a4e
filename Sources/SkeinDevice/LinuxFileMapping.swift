import CSystem

/// A file's content as memory that is only read.
@safe
final class FileMapping: Sendable {
    private static let page = 4096
    /// Asked about in one call: 1 MiB.
    private static let pagesAtOnce = 256

    private let memory: Memory

    @safe private struct Memory: @unchecked Sendable {
        let bytes: UnsafeRawBufferPointer
    }

    /// Nil where there is nothing to map, or no place for it.
    init?(_ descriptor: Int32, bytes: UInt64) {
        guard let count = Int(exactly: bytes), count > 0 else { return nil }
        let made = unsafe sk_mmap(nil, count, PROT_READ, MAP_SHARED, descriptor, 0)
        // The last page of addresses is that of error numbers.
        guard let made = unsafe made, UInt(bitPattern: made) < UInt(bitPattern: -4095) else { return nil }
        memory = unsafe Memory(bytes: UnsafeRawBufferPointer(start: made, count: count))
    }

    deinit {
        _ = unsafe sk_munmap(UnsafeMutableRawPointer(mutating: memory.bytes.baseAddress), memory.bytes.count)
    }

    /// Where a range lies; nil where it goes beyond what is mapped.
    func content(_ offset: UInt64, _ length: UInt64) -> UnsafeRawPointer? {
        let (end, overflow) = offset.addingReportingOverflow(length)
        guard !overflow, unsafe end <= UInt64(memory.bytes.count) else { return nil }
        return unsafe memory.bytes.baseAddress! + Int(offset)
    }

    /// Whether all of a range is in memory now: no hole, not swapped out, not beyond the end of the file.
    func isPresent(_ content: UnsafeRawPointer, _ length: UInt64) -> Bool {
        let skip = Int(bitPattern: content) % FileMapping.page
        var start = Int(bitPattern: content) - skip
        var left = skip + Int(length)
        return unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: FileMapping.pagesAtOnce) { pages in
            while left > 0 {
                let count = min(left, FileMapping.pagesAtOnce * FileMapping.page)
                // Where pages are larger, fewer of them are told of.
                unsafe pages.initialize(repeating: 1)
                let result = sk_syscall6(
                    Int(SYS_mincore), start, count, Int(bitPattern: pages.baseAddress), 0, 0, 0)
                guard unsafe result == 0 && pages.allSatisfy({ $0 & 1 == 1 }) else { return false }
                start += count
                left -= count
            }
            return true
        }
    }
}
