/// Bytes that wait, first in, first out, in pieces of the size of a fragment: it holds at most three fragments more
/// memory than it has bytes, and nothing is moved when it grows.
struct ByteQueue {
    /// Bytes of memory that an empty queue keeps, so that short messages need no new memory.
    private static let kept = 512

    private var pieces: [[UInt8]] = []
    /// Bytes of the first piece that are gone.
    private var head = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    mutating func append(_ bytes: RawSpan) {
        var taken = 0
        while taken < bytes.byteCount {
            if (pieces.last?.count ?? Limit.fragment) >= Limit.fragment {
                pieces.append([])
                pieces[pieces.count - 1].reserveCapacity(min(Limit.fragment, bytes.byteCount - taken))
            }
            let last = pieces.count - 1
            let size = min(Limit.fragment - pieces[last].count, bytes.byteCount - taken)
            unsafe bytes.extracting(taken..<taken + size).withUnsafeBytes {
                unsafe pieces[last].append(contentsOf: $0)
            }
            taken += size
        }
        count += bytes.byteCount
    }

    /// Moves the first `size` bytes, which must be there, to `offset`, where there must be room.
    mutating func remove(_ size: Int, to room: inout MutableRawSpan, at offset: Int) {
        precondition(size <= count, "what is removed is there")
        var moved = 0
        while moved < size {
            let part = min(size - moved, pieces[0].count - head)
            room.put(pieces[0], head..<head + part, at: offset + moved)
            moved += part
            head += part
            if head == pieces[0].count { dropPiece() }
        }
        count -= size
    }

    mutating func removeAll() { self = ByteQueue() }

    private mutating func dropPiece() {
        if pieces.count == 1 && pieces[0].capacity <= ByteQueue.kept {
            pieces[0].removeAll(keepingCapacity: true)
        } else if pieces.count == 1 {
            pieces = []
        } else {
            pieces.removeFirst()
        }
        head = 0
    }
}
