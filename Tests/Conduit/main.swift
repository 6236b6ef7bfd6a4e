import Glibc
import MediumKit
import SkeinConduit
import Synchronization

// Filaments on a conduit, and a host's conduits on a medium, without I/O. The folder holds the golden vectors.

idleTests()
if CommandLine.arguments.count > 1 { goldenTests(CommandLine.arguments[1]) }
filamentTests()
creditTests()
fairnessTests()
hostileTests()
groupTests()
speedTests()
exit(failures.load(ordering: .relaxed) == 0 ? 0 : 1)
