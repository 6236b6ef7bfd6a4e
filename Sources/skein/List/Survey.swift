import Glibc
import SkeinCore

/// Everything that the tables below the runtime folder say at one moment.
struct Survey {
    /// Of living processes.
    private(set) var sockets: [SocketRecord] = []
    private(set) var totals = Totals()
    /// One line for each table that could not be used.
    private(set) var warnings: [String] = []
    /// Processes already looked up: a table may name the same one a hundred thousand times.
    private var owners: [Int32: Process.Standing] = [:]

    /// Reads every table that this user may read.
    static func take() -> Survey {
        var survey = Survey()
        for folder in RuntimeFolder.all(&survey.warnings) { survey.read(folder) }
        survey.sockets.sort { ($0.process.identifier, $0.descriptor) < ($1.process.identifier, $1.descriptor) }
        return survey
    }

    private mutating func read(_ folder: RuntimeFolder) {
        for (path, user) in folder.tables(&warnings) {
            do {
                let file = try RuntimeFolder.openTable(path, user: user)
                add(try Table(file, user: user), path)
            } catch let error as Table.Unreadable {
                warnings.append("\(path) \(error.reason)")
            } catch let error as SystemError where error.code == ENOENT || error.code == EACCES {
                // Nothing started yet, or another user's affair.
            } catch {
                warnings.append("\(path) can't be read: \((error as? SystemError)?.text ?? "\(error)")")
            }
        }
    }

    private mutating func standing(of process: Process) -> Process.Standing {
        if let known = owners[process.identifier] { return known }
        let standing = process.standing
        owners[process.identifier] = standing
        return standing
    }

    private mutating func add(_ table: Table, _ path: String) {
        totals.add(table.totals)
        for record in table.records {
            // The header gets a record's bytes when the record is given back, which a killed owner never did.
            totals.bytesIn &+= record.bytesIn
            totals.bytesOut &+= record.bytesOut
            if record.mayBelong(to: standing(of: record.process)) { sockets.append(record) }
        }
        if table.nonsense > 0 {
            warnings.append("\(path) has \(table.nonsense) damaged records, which are left out")
        }
    }
}
