import Glibc
import SkeinCore

/// Every socket that programs under Skein have at one moment, as far as we may look: those of this user's
/// processes, or of all for root.
struct Survey {
    private(set) var sockets: [ListedSocket] = []
    private(set) var totals = Sums()
    /// One line for each thing that could not be used.
    private(set) var warnings: [String] = []

    /// Socket tables by inode, with the processes that have it open: after a fork past the hooks several do.
    private var found: [UInt64: [(process: Process, path: String)]] = [:]
    private var files: [Int32: ProcessFiles] = [:]
    /// Where the memory of connections can be read.
    private var pools: [UInt64: String] = [:]
    /// Processes that can't write their totals, by errno.
    private var withoutTotals: [Int32: [String]] = [:]
    /// Processes whose mappings have been looked at.
    private var mapped: Set<Int32> = []
    private var kernels: [String: KernelSockets] = [:]
    private let counters = KernelCounters()

    /// Of the host that SKEIN_DIR names, or of the machine's own.
    static func ofHost() -> Survey {
        var survey = Survey()
        let folders = RuntimeFolder.all(&survey.warnings)
        for folder in folders { survey.readTotals(folder) }
        let hosts = Set(folders.map(\.identity))
        let own = environmentVariable("SKEIN_DIR")
        survey.take(
            where: { hosts.contains($0) || (own == nil && $0 == .none) },
            reportIf: { process, isReadable in
                if isReadable { return true }
                // The table can't tell its host; the environment that the process started with can.
                let theirs = process.variable("SKEIN_DIR")
                return theirs.map { path in hosts.contains { $0 == FolderIdentity(of: path) } } ?? (own == nil)
            })
        // A process that has met it has said so.
        if survey.withoutTotals.isEmpty { survey.warnings += folders.compactMap(\.fault) }
        return survey
    }

    /// Of all hosts, for what concerns one process: its peers may be anywhere.
    static func around(_ process: Process) -> Survey {
        var survey = Survey()
        survey.take(where: { _ in true }, reportIf: { one, _ in one.identifier == process.identifier })
        return survey
    }

    /// `concerns`: whether faults of a process's table are to be reported, and whether that can be read.
    private mutating func take(
        where isWanted: (FolderIdentity) -> Bool, reportIf concerns: (Process, _ isReadable: Bool) -> Bool
    ) {
        findTables()
        for holders in found.values {
            do {
                guard let (table, process) = try readTable(holders), isWanted(table.folder) else { continue }
                add(table, of: process, reporting: concerns(process, true))
            } catch {
                let process = holders[0].process
                if concerns(process, false) { warnings.append("\(title(of: process)) \(error.reason)") }
            }
        }
        warnOfTotals()
        sockets.sort { ($0.process.identifier, $0.record.descriptor) < ($1.process.identifier, $1.record.descriptor) }
    }

    private func title(of process: Process) -> String {
        "process \(process.identifier) (\(printable(process.name)))"
    }

    private mutating func findTables() {
        for identifier in ((try? names(in: "/proc")) ?? []).compactMap({ Int32($0) }) {
            let process = Process(identifier)
            guard let files = try? ProcessFiles(of: process), !files.tables.isEmpty || !files.pools.isEmpty else {
                continue
            }
            for (inode, path) in files.tables { found[inode, default: []].append((process, path)) }
            pools.merge(files.pools) { first, _ in first }
            self.files[identifier] = files
        }
    }

    /// Nil where the process ended meanwhile.
    private func readTable(
        _ holders: [(process: Process, path: String)]
    ) throws(Table.Unreadable) -> (Table, Process)? {
        for (index, holder) in holders.enumerated() {
            guard let file = try? File(holder.path) else { continue }
            let table = try Table(file, of: holder.process)
            let isLast = index == holders.count - 1
            if isLast || table.owner == holder.process.ownIdentifier { return (table, holder.process) }
        }
        return nil
    }

    private mutating func add(_ table: Table, of process: Process, reporting: Bool) {
        totals.add(table.totals)
        for record in table.records {
            totals.add(record)
            // A descriptor that was closed past the hooks leaves its record behind.
            guard let inode = files[process.identifier]?.sockets[record.descriptor] else { continue }
            sockets.append(complete(ListedSocket(record, inode: inode, layout: table.layout)))
        }
        guard reporting else { return }
        let title = title(of: process)
        if table.nonsense > 0 {
            warnings.append("\(title) has \(table.nonsense) damaged records in its socket table, which are left out")
        }
        if table.totalsError != 0, table.totalsError != EAGAIN {
            withoutTotals[table.totalsError, default: []].append(title)
        }
    }

    /// One line for each reason, however many processes have it.
    private mutating func warnOfTotals() {
        for (code, titles) in withoutTotals.sorted(by: { $0.key < $1.key }) {
            let others = titles.count > 1 ? " and \(titles.count - 1) others" : ""
            let reason = SystemError(code: code)
            warnings.append(
                "\(titles.sorted()[0])\(others) can't write totals below the runtime folder: \(reason.text)\(reason.remedy)"
            )
        }
    }

    private mutating func complete(_ socket: ListedSocket) -> ListedSocket {
        var socket = socket
        if !socket.record.isOnMemory {
            socket.add(kernel(around: socket.process).sockets[socket.inode], counters.tcp[socket.inode])
        } else if socket.record.state == .connected {
            let slot = poolPath(socket).flatMap { Slot(socket.record.place, in: $0) }
            socket.add(slot, hungUp: counters.hungUp.contains(socket.inode))
        }
        return socket
    }

    /// The client keeps a descriptor of the memory. After its end the server's mapping is left, which root
    /// alone may open.
    private mutating func poolPath(_ socket: ListedSocket) -> String? {
        let pool = socket.record.place.pool
        if let path = pools[pool] { return path }
        if mapped.insert(socket.process.identifier).inserted {
            pools.merge(ProcessFiles.mappedPools(of: socket.process)) { first, _ in first }
        }
        return pools[pool]
    }

    private mutating func kernel(around process: Process) -> KernelSockets {
        let namespace = target(ofLink: "\(process.folder)/ns/net") ?? ""
        if let known = kernels[namespace] { return known }
        let kernel = KernelSockets(around: process)
        kernels[namespace] = kernel
        return kernel
    }

    private mutating func readTotals(_ folder: RuntimeFolder) {
        for (path, user) in folder.totals(&warnings) {
            do {
                totals.add(try Sums(RuntimeFolder.openTotals(path, user: user)))
            } catch let error as Table.Unreadable {
                warnings.append("\(path) \(error.reason)")
            } catch let error as SystemError where error.code == ENOENT || error.code == EACCES {
                // Nothing counted yet, or another user's affair.
            } catch let error as SystemError where error.code == ELOOP {
                warnings.append("\(path) is not a file of user \(user); remove it")
            } catch {
                warnings.append("\(path) can't be read: \((error as? SystemError)?.text ?? "\(error)")")
            }
        }
    }
}

extension SystemError {
    /// What to do where totals can't be written.
    fileprivate var remedy: String {
        switch code {
        case ENOSPC, EDQUOT: "; free about 4 KiB there"
        case EEXIST:
            "; something that isn't this user's file has the name "
                + "\(Totals.namePrefix)\(Totals.version) there: remove it"
        case EROFS: "; mount the runtime folder's file system writable"
        case EPERM:
            "; the runtime folder must belong to root or to the user, with the sticky bit where others may write"
        default: ""
        }
    }
}
