import Glibc
import SkeinTransfer
import Synchronization

// The protocol of `skein send` and `skein receive`, both machines against each other and against bytes that no
// honest peer sends.

transferTests()
faultTests()
nameTests()
noiseTests()
exit(failures.load(ordering: .relaxed) == 0 ? 0 : 1)
