import Glibc
import Synchronization

// The management channel, and a server that takes the place of this one.

extension ManagementChannel {
    /// Has everything handed over to who is at the other end of the link.
    func handOver(_ words: [String], _ link: HandoverLink) {
        do throws(ExportFault) {
            guard words.dropFirst() == ["\(HandoverLink.version)"] else {
                throw ExportFault("the server that runs is of another version: stop it and start this one")
            }
            let isFree = changes.withLock { changes in
                guard changes == 0 else { return false }
                changes = -1
                return true
            }
            guard isFree else {
                throw ExportFault("a device is being added or rebuilt, or the server replaced: try again later")
            }
        } catch {
            try? link.send(.refused, Array(error.text.utf8))
            return
        }
        actions.handOver(link)
    }

    /// Nothing was handed over: things may change again.
    func handoverFailed() { changes.withLock { $0 = 0 } }

    /// Changes something, unless everything is being handed over.
    func whileNobodyHandsOver(_ change: () throws(ExportFault) -> String) throws(ExportFault) -> String {
        let mayChange = changes.withLock { changes in
            guard changes >= 0 else { return false }
            changes += 1
            return true
        }
        guard mayChange else { throw ExportFault("the server is being replaced: try again") }
        defer { changes.withLock { $0 -= 1 } }
        return try change()
    }

    private static let restartNanoseconds: UInt64 = 60_000_000_000

    /// Starts the server anew, and returns when the new one has everything.
    func restart() throws(ExportFault) {
        let process = try actions.spawn(transport.path ?? "")
        let deadline = Clock.now + ManagementChannel.restartNanoseconds
        while !isHandedOver.load(ordering: .acquiring) {
            var status: Int32 = 0
            guard unsafe waitpid(process, &status, WNOHANG) == 0 else {
                throw ExportFault(
                    "the new server has ended; what the old one writes to its log says why. This one goes on")
            }
            guard Clock.now < deadline else {
                throw ExportFault("the new server, process \(process), hasn't taken over within a minute")
            }
            usleep(5000)
        }
    }
}
