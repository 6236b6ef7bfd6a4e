import Glibc
import Logging
import SkeinGroup
import SkeinMedium

/// The agent of a host: it keeps the host's place on a medium, and carries the streams of local programs to other hosts.
///
/// One thread has all state. It sleeps until a read or write of the medium has ended, a program wants something, a signal
/// comes, or the group's host has something to do.
package final class Agent {
    /// Members of the watcher.
    private enum Member {
        static let queue: UInt64 = 0
        static let signals: UInt64 = 1
        static let programs: UInt64 = 2
    }

    private let medium: Medium
    private let name: String
    private let seal: any Seal
    private let timing: Timing
    private let log: Logger
    private let folder: HostFolder
    private let queue: any MediumQueue
    private let service: LocalService
    private let listing: GroupListing
    private let health: MediumHealth
    private let signals: Int32
    private let watcher = Watcher()
    private var group: GroupHost
    private var incarnation: Identifier
    /// Actions that the queue has.
    private var underWay = 0
    /// This incarnation has ended, and the next one begins when nothing of it is under way.
    private var isBetween = false
    private var hasSaidReady = false
    /// When stopping has taken too long, in nanoseconds of CLOCK_BOOTTIME.
    private var stopDeadline: UInt64?
    private var outcome: Result<Void, AgentFault>?

    /// An agent that begins to join. `signals` is a descriptor that becomes readable when it is to stop. `usesThreads`: io_uring
    /// is left alone even where there is one.
    package init(
        host name: String, medium path: String, key: String?, usesThreads: Bool, signals: Int32, log: Logger
    ) throws(AgentFault) {
        guard (1...Lease.nameSize).contains(name.utf8.count), !name.utf8.contains(where: { $0 <= 32 || $0 == 58 })
        else {
            throw AgentFault(
                "'\(name)' is no name of a host: it has 1 to \(Lease.nameSize) bytes, no blank and no colon")
        }
        self.name = name
        self.log = log
        self.signals = signals
        folder = try HostFolder()
        medium = try Medium(path, .writing, key: key)
        seal = try medium.neededSeal()
        timing = Timing(timeoutMilliseconds: medium.superblock.timeoutMilliseconds)
        let gone = try Agent.predecessor(name, medium, folder, timing, log)
        let ring = usesThreads ? nil : RingQueue(medium.device)
        queue = ring ?? ThreadQueue(medium.device, medium.superblock.geometry)
        log.debug("reads and writes are done by \(ring == nil ? "threads" : "io_uring")")
        listing = GroupListing(of: medium.superblock.group, in: folder)
        service = LocalService(try ControlSocket(in: folder), Agent.sockets(log), watcher)
        health = MediumHealth(path, timeout: timing.timeout, log)
        incarnation = .random()
        group = Agent.host(name, incarnation, gone: gone, medium, seal, timing, folder, log)
        watcher.add(queue.descriptor, Member.queue)
        watcher.add(signals, Member.signals)
        for descriptor in service.descriptors { watcher.add(descriptor, Member.programs) }
    }

    /// Programs' sockets; without them there is the control socket still.
    private static func sockets(_ log: Logger) -> GroupSockets? {
        do throws(AgentFault) { return try GroupSockets() } catch {
            log.warning("\(error)")
            return nil
        }
    }

    /// The incarnation of this name that is known to be gone. Says so where another one must be watched first.
    private static func predecessor(
        _ name: String, _ medium: Medium, _ folder: HostFolder, _ timing: Timing, _ log: Logger
    ) throws(AgentFault) -> Identifier? {
        let gone = folder.gone(on: medium.superblock.identity)
        let named = try medium.leases().compactMap { $0 }.filter { $0.lease.name == name }
        if let known = named.first(where: { gone.contains($0.incarnation) }) { return known.incarnation }
        if named.contains(where: { $0.lease.state != .stopped }) {
            log.warning(
                "the last agent of '\(name)' said nothing when it ended, and its runtime folder was another: its place is watched for \(timing.dead / 1_000_000) ms first"
            )
        }
        return nil
    }

    private static func host(
        _ name: String, _ incarnation: Identifier, gone: Identifier?, _ medium: Medium, _ seal: any Seal,
        _ timing: Timing, _ folder: HostFolder, _ log: Logger
    ) -> GroupHost {
        do throws(AgentFault) {
            try folder.note(incarnation, on: medium.superblock.identity)
        } catch {
            log.warning("\(error): after a crash the next agent waits for \(timing.dead / 1_000_000) ms")
        }
        let host = Membership.Host(
            name: name, boot: folder.boot, machine: folder.machine, incarnation: incarnation, gone: gone)
        return GroupHost(host, on: medium.superblock, timing: timing, seal: seal, at: now)
    }

    /// CLOCK_BOOTTIME in nanoseconds.
    private static var now: UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    // MARK: The loop

    /// Lives until a signal comes, or the host has no place on the medium. `ready` is called once, when it has.
    package func run(ready: (String) -> Void) throws(AgentFault) {
        defer { queue.end() }
        group.advance(at: Agent.now)
        settle(ready)
        while true {
            if let outcome { return try outcome.get() }
            let events = watcher.wait(nanoseconds: patience(at: Agent.now))
            let now = Agent.now
            // Whoever was stopped for long learns of it before anything is done for a program.
            group.advance(at: now)
            for ended in queue.collect() { take(ended, at: now) }
            for event in events {
                switch event.number {
                case Member.queue: break
                case Member.signals: stop(at: now)
                case Member.programs: service.programsCame()
                default:
                    service.changed(event.number, isReadable: event.isReadable, isWritable: event.isWritable)
                }
            }
            if let stopDeadline, now >= stopDeadline {
                log.warning(
                    "the medium doesn't answer: other hosts find this one dead in \(timing.dead / 1_000_000) ms")
                outcome = .success(())
            }
            settle(ready)
        }
    }

    /// Nanoseconds until something is due.
    private func patience(at now: UInt64) -> UInt64 {
        if service.isBusy { return 0 }
        let due = min(group.deadline ?? .max, stopDeadline ?? .max)
        return due > now ? min(due - now, 3_600_000_000_000) : 0
    }

    private func take(_ ended: EndedAction, at now: UInt64) {
        underWay -= 1
        health.note(ended, at: now)
        // What an incarnation had under way when it ended is nothing to the next, which begins after it.
        if isBetween { return }
        group.ended(ended.tag, ended.outcome, at: now)
    }

    /// Tells programs what happened and takes what they want, until nothing more comes of it; then has the medium do it.
    private func settle(_ ready: (String) -> Void) {
        let now = Agent.now
        while true {
            service.serve(&group)
            group.send(at: now)
            let events = group.takeEvents()
            if events.isEmpty { break }
            for event in events { heed(event, ready) }
        }
        tellPrograms()
        let actions = group.takeActions()
        underWay += actions.count
        queue.submit(actions)
        if isBetween && underWay == 0 { beginAgain() }
    }

    // MARK: What happens

    private func heed(_ event: GroupHost.Event, _ ready: (String) -> Void) {
        let place = "\(medium.superblock.group)/\(name)"
        switch event {
        case .joined(let number, let generation):
            log.info("\(place) is host \(number), start \(generation)")
            listing.joined(as: number, name)
            tellPrograms()
            if !hasSaidReady { ready("ready \(place) \(number)") }
            hasSaidReady = true
        case .peerCame(let host, let name):
            listing.add(host, name)
            log.info("host \(shown(name)) (\(host)) is there")
        case .peerGone(let host, let name):
            listing.remove(host)
            log.info("host \(shown(name)) (\(host)) is gone")
        case .peerBroken(let host, let name, let reason):
            listing.remove(host)
            log.error(
                "host \(shown(name)) (\(host)) writes what no host of this version does, and is ignored: \(reason)")
        case .filament(let link, let host, let event):
            service.heed(event, of: GroupFilament(link: link, host: host, number: event.number), &group)
        case .ended(let end): ended(end)
        }
    }

    /// Which hosts live.
    private func tellPrograms() {
        do throws(AgentFault) { try listing.write() } catch { log.warning("\(error)") }
    }

    /// A name that another host has given itself, on one line.
    private func shown(_ name: String) -> String {
        "'\(String(name.map { $0.unicodeScalars.allSatisfy { $0.value >= 32 } ? $0 : "?" }))'"
    }

    /// This incarnation has ended: for good, or for a new one.
    private func ended(_ end: Membership.End) {
        listing.removeAll()
        switch end {
        case .stopped: outcome = .success(())
        case .nameTaken:
            outcome = .failure(
                AgentFault(
                    "a host called '\(name)' is alive on \(medium.device.path): stop it, or choose another --host",
                    status: AgentFault.noPlace))
        case .full(let stopped):
            let who = stopped.isEmpty ? "" : "; of hosts that have stopped: \(stopped.joined(separator: ", "))"
            outcome = .failure(
                AgentFault(
                    "all \(medium.superblock.geometry.hosts) places on \(medium.device.path) belong to hosts\(who): make a medium with more --hosts",
                    status: AgentFault.noPlace))
        case .judgedDead(let host):
            beginAgain(since: "host \(host) found this one dead, since it wrote nothing for long")
        case .replaced: beginAgain(since: "another host called '\(name)' has taken this one's place")
        case .lost: beginAgain(since: "the medium could not be written and read for \(timing.fence / 1_000_000) ms")
        }
    }

    private func beginAgain(since reason: String) {
        log.error("\(reason): all connections to other hosts have ended, and it joins anew")
        isBetween = true
        if stopDeadline != nil { outcome = .success(()) }
    }

    private func beginAgain() {
        isBetween = false
        let last = incarnation
        incarnation = .random()
        group = Agent.host(name, incarnation, gone: last, medium, seal, timing, folder, log)
    }

    private func stop(at now: UInt64) {
        if stopDeadline != nil { return }
        stopDeadline = now + timing.fence
        group.stop(at: now)
        if isBetween { outcome = .success(()) }
    }
}
