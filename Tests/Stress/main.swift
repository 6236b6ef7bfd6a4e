import Glibc
import SkeinCore

// stress [SEED]: a sentence a case.

let seed = CommandLine.arguments.count > 1 ? UInt64(CommandLine.arguments[1])! : 1
identifyProcess()
alarm(300)  // against hanging
bothWays(seed)
manyThreads()
deadOwners()
manyConnections(seed)
