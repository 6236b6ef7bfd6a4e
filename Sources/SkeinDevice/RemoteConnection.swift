import CSystem
import Glibc
import Synchronization

/// Keeps a connection to another NBD server: when it is lost, its thread connects anew, again and again.
final class RemoteConnection: Sendable {
    private static let microsecondsBetween: UInt32 = 50_000
    /// Tries come a second apart.
    private static let restsBetween = 20

    private struct State {
        var link: RemoteLink?
        var outages = 0
        /// Something was written that no flush has covered, and the connection was lost since.
        var hasLoss = false
        var isClosed = false
        /// Why there is no link.
        var reason = ""
    }

    private let state: Mutex<State>
    let uri: String
    /// What the first connection found. A server that has less of it, or another size, isn't the same.
    let abilities: RemoteLink.Abilities

    /// Without a link it begins by connecting.
    init(_ uri: String, _ abilities: RemoteLink.Abilities, _ link: RemoteLink?) {
        self.uri = uri
        self.abilities = abilities
        state = Mutex(State(link: link, outages: link == nil ? 1 : 0))
        Thread.start { self.serve() }
    }

    /// The connection; nil while there is none.
    var link: RemoteLink? { state.withLock { $0.link } }

    var presence: DevicePresence { state.withLock { DevicePresence(isThere: $0.link != nil, outages: $0.outages) } }

    /// Why there is no connection, for people; nil while there is one.
    var reason: String? { state.withLock { $0.link == nil ? $0.reason : nil } }

    /// The link has ended: nobody is given it any more.
    func lost(_ link: RemoteLink) {
        state.withLock { state in
            guard state.link === link else { return }
            state.link = nil
            state.outages += 1
            if link.hasUnflushed { state.hasLoss = true }
            state.reason = "the connection was lost"
        }
    }

    /// Whether a write that was answered may have got lost with the connection. Told once, as fsync(2) does.
    func takeLoss() -> Bool {
        state.withLock { state in
            defer { state.hasLoss = false }
            return state.hasLoss
        }
    }

    /// Ends the connection and the thread.
    func close() {
        let link = state.withLock { state in
            state.isClosed = true
            return state.link
        }
        link?.end()
    }

    private var isClosed: Bool { state.withLock { $0.isClosed } }

    private func serve() {
        while !isClosed {
            if let link {
                link.run()
                lost(link)
            }
            var rests = 0
            while rests < RemoteConnection.restsBetween, !isClosed {
                usleep(RemoteConnection.microsecondsBetween)
                rests += 1
            }
            if !isClosed { connect() }
        }
    }

    private func connect() {
        do throws(DeviceFault) {
            let link = try RemoteLink(uri)
            guard link.abilities == abilities else { throw DeviceFault("what is there now is another export") }
            let isWanted = state.withLock { state in
                if !state.isClosed { state.link = link }
                return !state.isClosed
            }
            if !isWanted { link.end() }
        } catch {
            let text = error.text
            state.withLock { $0.reason = text }
        }
    }
}
