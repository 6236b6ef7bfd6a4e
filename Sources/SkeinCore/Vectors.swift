import CSystem

/// Where the data of a call lies; one vector or many.
@safe
package struct Vectors {
    /// Nothing is read from it when there are none: a message without data may have no vectors at all.
    let base: UnsafePointer<iovec>?
    package let count: Int

    package init(base: UnsafePointer<iovec>?, count: Int) {
        unsafe self.base = unsafe base
        self.count = count
    }

    package subscript(_ index: Int) -> iovec { unsafe base.unsafelyUnwrapped[index] }

    /// Whether there is room for no byte at all.
    package var isEmpty: Bool {
        for index in 0..<count where unsafe self[index].iov_len != 0 { return false }
        return true
    }

    /// Bytes in all; minus the errno for vectors that can't be meant: a missing address, more than there is.
    package func total(discards: Bool = false) -> Int {
        if unsafe base == nil && count > 0 { return -Int(EFAULT) }
        var sum = 0
        for index in 0..<count {
            let vector = unsafe self[index]
            let (more, overflows) = unsafe sum.addingReportingOverflow(vector.iov_len)
            if unsafe vector.iov_len < 0 || overflows { return -Int(EINVAL) }
            if unsafe vector.iov_base == nil && vector.iov_len > 0 && !discards { return -Int(EFAULT) }
            sum = more
        }
        return sum
    }

    /// The pieces that hold the `count` bytes behind the first `skipped`, each with how many of the bytes come before it.
    @inline(__always) package func forEachPiece(
        behind skipped: Int, count: Int,
        _ body: (_ address: UnsafeMutableRawPointer, _ before: Int, _ size: Int) -> Void
    ) {
        var skip = skipped
        var done = 0
        var index = 0
        while done < count {
            let vector = unsafe self[index]
            index += 1
            if unsafe skip >= vector.iov_len {
                unsafe skip -= vector.iov_len
                continue
            }
            let size = unsafe min(vector.iov_len - skip, count - done)
            unsafe body(vector.iov_base.advanced(by: skip), done, size)
            done += size
            skip = 0
        }
    }
}

extension Endpoint {
    /// Copies out into the vectors what there is, behind the `skipped` bytes that were taken before. `discards` (MSG_TRUNC)
    /// copies nothing, and only counts. All vectors are taken as one: what others read at the same time lies before all of
    /// it or behind.
    @inline(__always)
    package func take(_ vectors: Vectors, behind skipped: Int, count: Int, discards: Bool) -> Int {
        if count <= 0 { return 0 }
        if vectors.count == 1 && !discards {
            return unsafe take(into: vectors[0].iov_base.advanced(by: skipped), count: count, peek: false)
        }
        return takeApart(vectors, behind: skipped, count: count, discards: discards)
    }

    @inline(never)
    private func takeApart(_ vectors: Vectors, behind skipped: Int, count: Int, discards: Bool) -> Int {
        take(count: count, peek: false) { place, done, run in
            if !discards { copy(run, at: place, vectors, behind: skipped + done) }
        }
    }

    /// Copies up to `count` bytes out and leaves them. `hole` (0 or 1): how many bytes come before them, which is an
    /// urgent one at which the reader stands.
    @inline(never)
    package func peek(_ vectors: Vectors, count: Int, discards: Bool) -> (count: Int, hole: Int) {
        if count <= 0 { return (0, 0) }
        while true {
            let head = block.acquire64(Block.head)
            let hole = standsAtUrgent() ? 1 : 0
            let done = take(count: count, peek: true, skipping: hole) { place, done, run in
                if !discards { copy(run, at: place, vectors, behind: done) }
            }
            // Otherwise another thread has read, or an urgent byte has come or was dropped, and other bytes are to be seen.
            if (standsAtUrgent() ? 1 : 0) == hole && block.acquire64(Block.head) == head { return (done, hole) }
        }
    }

    @inline(__always) private func copy(_ count: Int, at place: Int, _ vectors: Vectors, behind skipped: Int) {
        unsafe vectors.forEachPiece(behind: skipped, count: count) {
            unsafe slot.copyOut(place + $1, to: $0, count: $2)
        }
    }
}
