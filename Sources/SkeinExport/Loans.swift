import Glibc

/// Content that goes out from where it lies, between what is staged: its device has lent it to the system.
@safe
struct Loans: ~Copyable {
    /// Those of one call, each between two pieces of what is staged.
    static let limit = 64

    /// Pieces of what is staged and loans, in turn; the bases of the former are still missing.
    private let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: 2 * Loans.limit + 1)
    private var count = 0
    /// Staged bytes that go out before the last loan.
    private var place = 0

    deinit { unsafe vectors.deallocate() }

    var isEmpty: Bool { count == 0 }
    var isFull: Bool { count == Loans.limit }

    /// Adds content that goes out behind so many staged bytes.
    mutating func append(_ content: UnsafeRawBufferPointer, behind staged: Int) {
        precondition(!isFull, "a flush makes room")
        unsafe vectors[2 * count] = unsafe iovec(iov_base: nil, iov_len: staged - place)
        unsafe vectors[2 * count + 1] = unsafe iovec(
            iov_base: UnsafeMutableRawPointer(mutating: content.baseAddress), iov_len: content.count)
        place = staged
        count += 1
    }

    /// Everything in its order: staged bytes at even places, loans at odd ones. No loan is left then; the list holds until
    /// the next one.
    mutating func take(with staged: UnsafeMutableRawBufferPointer) -> UnsafeMutableBufferPointer<iovec> {
        unsafe vectors[2 * count] = unsafe iovec(iov_base: nil, iov_len: staged.count - place)
        var position = 0
        for index in 0...count {
            unsafe vectors[2 * index].iov_base = unsafe staged.baseAddress! + position
            position += unsafe vectors[2 * index].iov_len
        }
        let all = unsafe UnsafeMutableBufferPointer(start: vectors, count: 2 * count + 1)
        count = 0
        place = 0
        return unsafe all
    }
}
