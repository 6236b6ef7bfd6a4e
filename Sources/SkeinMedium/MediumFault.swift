/// Why something is no medium that this version can use.
package enum MediumFault: Error, Equatable, CustomStringConvertible {
    /// Neither copy of the superblock has its magic.
    case noMedium
    /// Both copies of the superblock are damaged.
    case brokenSuperblock
    /// The format's major version is not the one known here.
    case format(major: UInt16)
    /// The superblock proves itself, and states regions that can't be.
    case geometry
    /// The device is smaller than what N hosts need.
    case tooSmall(has: UInt64, needs: UInt64, hosts: Int)
    /// The group's name is longer than 32 bytes, empty or not text.
    case groupName
    /// A host's name is longer than 64 bytes, or empty.
    case hostName

    package var description: String {
        switch self {
        case .noMedium: "this is no medium of Skein: make one with 'skein medium create'"
        case .brokenSuperblock:
            "both copies of the superblock are damaged, so what is on it can't be read: make the medium anew with --force"
        case .format(let major):
            "the medium has format \(major), and this version knows format \(BlockHeader.major): use the version of Skein "
                + "that made it"
        case .geometry:
            "the superblock states regions that can't be, though it is whole: make the medium anew with --force"
        case .tooSmall(let has, let needs, let hosts):
            "the medium has \(has) bytes, and \(hosts) hosts need \(needs): give it more, or ask for fewer hosts"
        case .groupName: "a group's name has 1 to 32 bytes"
        case .hostName: "a host's name has 1 to 64 bytes"
        }
    }
}
