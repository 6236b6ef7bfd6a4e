import SkeinAgent
import SkeinMedium
import SkeinText

extension MediumReport {
    /// For people.
    var text: String {
        let geometry = superblock.geometry
        var lines = [
            "medium   \(superblock.identity)\(isWhole ? "" : "  (one copy of the superblock is damaged: 'skein medium check --repair')")",
            "group    \(superblock.group)",
            "sealing  \(superblock.sealing == .cipher ? "AES-256-GCM" : "none: checksums alone")",
            "size     \((geometry.units * UInt64(unitSize)) >> 20) MiB, \(geometry.hosts) hosts, rings of \((geometry.ringUnits * UInt64(unitSize)) >> 10) KiB",
            "timeout  \(superblock.timeoutMilliseconds) ms; a host is dead after \(timing.dead / 1_000_000) ms",
        ]
        guard let hosts else {
            lines.append(
                "the group's key is not here, so its hosts can't be told: 'skein key import \(superblock.group)'")
            return lines.joined(separator: "\n") + "\n"
        }
        lines.append("")
        lines.append("HOST                 STATE     SLOT  STARTS  SOCKETS  SAYS DEAD")
        for host in hosts {
            let dead = host.verdicts.map(String.init).joined(separator: ",")
            lines.append(
                [
                    padded(host.name, 20), padded(host.state.rawValue, 9), padded("\(host.slot)", 5),
                    padded("\(host.generation)", 7), padded("\(host.sockets)", 8), dead,
                ].joined(separator: " "))
        }
        let free = geometry.hosts - hosts.count
        lines.append("\(free) of \(geometry.hosts) slots never used")
        return lines.joined(separator: "\n") + "\n"
    }

    /// For programs.
    var json: String {
        let geometry = superblock.geometry
        var fields = [
            "\"identity\": \"\(superblock.identity)\"", "\"group\": \(quoted(superblock.group))",
            "\"sealed\": \(superblock.sealing == .cipher)", "\"whole\": \(isWhole)",
            "\"bytes\": \(geometry.units * UInt64(unitSize))", "\"slots\": \(geometry.hosts)",
            "\"ringBytes\": \(geometry.ringUnits * UInt64(unitSize))",
            "\"timeoutMilliseconds\": \(superblock.timeoutMilliseconds)",
            "\"deadMilliseconds\": \(timing.dead / 1_000_000)", "\"made\": \(superblock.made)",
        ]
        if let hosts {
            let rows = hosts.map { host in
                """
                {"slot": \(host.slot), "name": \(quoted(host.name)), "state": "\(host.state.rawValue)", "generation": \(host.generation), \
                "incarnation": "\(host.incarnation)", "sockets": \(host.sockets), "dead": \(host.verdicts)}
                """
            }
            fields.append("\"hosts\": [\(rows.joined(separator: ", "))]")
        }
        return "{\(fields.joined(separator: ", "))}\n"
    }

    private var timing: Timing { Timing(timeoutMilliseconds: superblock.timeoutMilliseconds) }

    private func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(width - text.count, 0))
    }
}
