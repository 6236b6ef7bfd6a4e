import Glibc
import MediumKit
import SkeinMedium
import SkeinSeal
import Synchronization

// Sealed blocks. The folder holds the golden vectors.

let folder = CommandLine.arguments[1]
let seal = CipherSeal(groupKey: [UInt8](0..<32), medium: medium)
let sealed = try superblock(keyCheck: seal.keyCheck)
let copy = compareGolden("superblock-copy", sealed.unit(place: Geometry.copyUnit, count: 7), in: folder)
check(
    try Superblock.read(first: [], copy: copy).superblock, is: sealed, "Swift reads the superblock's copy of Python's")
goldenTests(seal, suffix: "-sealed", folder: folder)
proofTests(seal, other: ChecksumSeal())
proofTests(seal, other: CipherSeal(groupKey: [UInt8](repeating: 1, count: 32), medium: medium))
proofTests(ChecksumSeal(), other: seal)
exit(failures.load(ordering: .relaxed) == 0 ? 0 : 1)
