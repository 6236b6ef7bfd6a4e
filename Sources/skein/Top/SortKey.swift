import ArgumentParser

/// By what `skein top` sorts: most first, names and numbers of processes from the beginning. Keys are first letters.
enum SortKey: String, CaseIterable, ExpressibleByArgument {
    case traffic
    case waiting
    case bells
    case spins
    case pid
    case name

    init?(letter: UInt8) {
        guard let key = SortKey.allCases.first(where: { $0.rawValue.utf8.first == letter }) else { return nil }
        self = key
    }

    /// The sockets in this order; equals by process and descriptor, so that lines don't jump about.
    func sorted(_ sockets: [ActiveSocket], reversed: Bool) -> [ActiveSocket] {
        let sorted = sockets.sorted { first, second in
            let (one, two) = (first.socket, second.socket)
            switch self {
            case .name where one.record.program != two.record.program: return one.record.program < two.record.program
            case .traffic, .waiting, .bells, .spins:
                let (left, right) = (amount(first), amount(second))
                if left != right { return left > right }
            case .name, .pid: break
            }
            return (one.process.identifier, one.record.descriptor) < (two.process.identifier, two.record.descriptor)
        }
        return reversed ? sorted.reversed() : sorted
    }

    private func amount(_ active: ActiveSocket) -> UInt64 {
        switch self {
        case .traffic: (active.rates?.bytesIn ?? 0) &+ (active.rates?.bytesOut ?? 0)
        case .waiting: (active.socket.waitingIn ?? 0) &+ (active.socket.waitingOut ?? 0)
        case .bells: active.rates?.bells ?? 0
        case .spins: active.rates?.spins ?? 0
        case .pid, .name: 0
        }
    }
}
