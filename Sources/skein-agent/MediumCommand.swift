import ArgumentParser
import Glibc
import SkeinAgent
import SkeinDevice
import SkeinMedium

struct MediumCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "medium",
        abstract: "Make and look at a medium: the file or block device that hosts share.",
        subcommands: [Create.self, Show.self, Check.self])

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a medium on a file or a block device.",
            discussion: """
                A file that is missing is made, as large as so many hosts need. What holds something already is refused. The group's \
                key is made where it is missing; 'skein key show' prints it for the other hosts.
                """)

        @Argument(help: "The file or block device.") var path: String
        @Option(help: ArgumentHelp("The group of hosts that it is for.", valueName: "name")) var group = "default"
        @Option(help: ArgumentHelp("Hosts that can be members at once, 2 to 64.", valueName: "number"))
        var hosts = Geometry.defaultHosts
        @Option(help: ArgumentHelp("Bytes to use, as 512M or 2G say.", valueName: "size")) var size: String?
        @Option(
            help: ArgumentHelp(
                "The longest that one read or write takes on a working device, as 500ms or 2s say. A host is judged dead nine times that after it went silent.",
                valueName: "time"))
        var ioTimeout = "1s"
        @Option(help: ArgumentHelp("Where the group's key lies, or is to lie.", valueName: "file")) var key: String?
        @Flag(help: "Nothing is encrypted: whoever reads the device reads all, and whoever writes it can forge all.")
        var plaintext = false
        @Flag(help: "Write over whatever is there.") var force = false

        func run() throws {
            var bytes: UInt64?
            if let size {
                guard let parsed = DeviceText.size(size) else {
                    throw AgentFault("'\(size)' is no size: write it as 512M or 2G")
                }
                bytes = parsed
            }
            guard let timeout = milliseconds(ioTimeout) else {
                throw AgentFault("'\(ioTimeout)' is no time: write it as 500ms or 2s")
            }
            let creation = MediumCreation(
                path: path, group: group, hosts: hosts, size: bytes, timeoutMilliseconds: timeout, key: key,
                isPlaintext: plaintext, isForced: force)
            report(try creation.make(), timeout: Double(timeout))
        }

        /// `500ms`, `2s` or `2`, which is seconds.
        private func milliseconds(_ text: String) -> UInt32? {
            if text.hasSuffix("ms") { return UInt32(text.dropLast(2)) }
            let number = text.hasSuffix("s") ? text.dropLast() : text[...]
            guard let seconds = Double(number), seconds >= 0, seconds < 1_000_000 else { return nil }
            return UInt32(seconds * 1000)
        }

        private func report(_ outcome: MediumCreation.Outcome, timeout: Double) {
            let superblock = outcome.superblock
            let geometry = superblock.geometry
            let mebibytes = (geometry.units * UInt64(unitSize)) >> 20
            let dead = Timing(timeoutMilliseconds: superblock.timeoutMilliseconds).dead / 1_000_000
            print(
                "medium \(superblock.identity) of group '\(superblock.group)': \(mebibytes) MiB for \(geometry.hosts) hosts, rings of "
                    + "\((geometry.ringUnits * UInt64(unitSize)) >> 10) KiB")
            print(
                "a host is dead after \(dead) ms of silence: 9 x the I/O timeout of \(superblock.timeoutMilliseconds) ms"
            )
            let measured = outcome.measurement
            print(
                "a write takes \(rounded(measured.write)) ms, a read \(rounded(measured.read)) ms; the longest of 64 took "
                    + "\(rounded(measured.longest)) ms")
            if measured.longest > timeout / 2 {
                complain(
                    "that is more than half of the I/O timeout: make it again with --io-timeout \(Int(measured.longest * 4) + 1)ms or more"
                )
            }
            guard let key = outcome.key else {
                return print("nothing on it is encrypted")
            }
            print("its key is \(key.isNew ? "made in" : "the one in") \(key.path)")
            print(
                "for the other hosts: 'skein key show \(superblock.group)' here, 'skein key import \(superblock.group)' there"
            )
        }

        private func rounded(_ milliseconds: Double) -> Double { (milliseconds * 100).rounded() / 100 }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Tell what a medium is, and which hosts are on it.",
            discussion: "It takes a little more than one I/O timeout: a host is alive that renews its lease meanwhile.")

        @Argument(help: "The file or block device.") var path: String
        @Option(help: ArgumentHelp("Where the group's key lies.", valueName: "file")) var key: String?
        @Flag(help: "As JSON.") var json = false

        func run() throws {
            let medium = try Medium(path, .reading, key: key)
            let period = medium.superblock.timeoutMilliseconds
            let report = try MediumReport(medium) { usleep(period * 1000 + period * 500) }
            print(json ? report.json : report.text, terminator: "")
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Verify every block of a medium's metadata.",
            discussion: """
                The exit status is 0 where all is sound, 1 where what was damaged has been put right, 4 where something is damaged still. \
                A lease or row that a host is just writing may be found torn: check again.
                """)

        @Argument(help: "The file or block device.") var path: String
        @Option(help: ArgumentHelp("Where the group's key lies.", valueName: "file")) var key: String?
        @Flag(help: "Put right what can be: a copy of the superblock from the other one.") var repair = false

        func run() throws {
            let medium = try Medium(path, repair ? .writing : .reading, key: key)
            let check = try MediumCheck(medium, repairing: repair)
            for line in check.repairs + check.problems { print(line) }
            print("\(check.sound) blocks are sound, \(check.unused) units unused, \(check.problems.count) problems")
            if !check.problems.isEmpty { throw ExitCode(4) }
            if !check.repairs.isEmpty { throw ExitCode(1) }
        }
    }
}
