import Glibc
import MediumKit
import SkeinMedium
import Synchronization

// The format of a medium and the machines that work on it, without I/O. The folder holds the golden vectors.

if CommandLine.arguments.count > 1 {
    let folder = CommandLine.arguments[1]
    let superblockRead = compareGolden("superblock", try superblock().unit(place: 0, count: 7), in: folder)
    check(try Superblock.read(first: superblockRead, copy: []).superblock, is: try superblock(), "Swift reads Python's")
    goldenTests(ChecksumSeal(), suffix: "", folder: folder)
    try batchTests(folder: folder)
}
formatTests()
hostileFormatTests()
try joiningTests()
try livingTests()
try ringTests()
try hostilePeerTests()
exit(failures.load(ordering: .relaxed) == 0 ? 0 : 1)
