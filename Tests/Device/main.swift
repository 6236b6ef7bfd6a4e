import Glibc
import SkeinDevice
import Synchronization

// The contract 'a device', for every kind; then what is each kind's own.

let folder = CommandLine.arguments.count > 1 ? CommandLine.arguments[1] : "/tmp"

try contract("a file", file("plain"))
try contract("a sparse file", file("sparse", filled: false))
try contract("memory", FileDevice.memory(size: size))
try contract(
    "a concatenation",
    ConcatenatedDevice([FileDevice.memory(size: 100_000), file("tail"), FileDevice.memory(size: 4097)]))
try contract(
    "stripes",
    StripedDevice([FileDevice.memory(size: size), file("second"), FileDevice.memory(size: size)], unit: 4096))
try contract("a mirror", MirrorDevice([FileDevice.memory(size: size), file("twin", filled: false)]))
try contract("an overlay", OverlayDevice(base: file("base"), changes: FileDevice.memory(size: size)))
try contract(
    "an overlay of an array",
    OverlayDevice(
        base: ConcatenatedDevice([FileDevice.memory(size: 5000), FileDevice.memory(size: 300_001)]),
        changes: file("changes")))
try contract("a volatile device", VolatileDevice(file("beneath")))
if CommandLine.arguments.count > 2 {
    let uri = CommandLine.arguments[2]
    try contract("another server's export", RemoteDevice(uri: uri, readOnly: false))
    try contract("an overlay of it", OverlayDevice(base: RemoteDevice(uri: uri, readOnly: true), changes: file("over")))
    try contract(
        "a mirror with it", MirrorDevice([RemoteDevice(uri: uri, readOnly: false), file("here", filled: false)]))
}
if CommandLine.arguments.count > 3 {
    try contract("a block device", FileDevice(path: CommandLine.arguments[3], readOnly: false))
    try contract(
        "a mirror of a block device",
        MirrorDevice([FileDevice(path: CommandLine.arguments[3], readOnly: false), file("other", filled: false)]))
    try blockDeviceTests(CommandLine.arguments[3])
}
try arrayTests()
try loanTests()
try mirrorTests()
try viewTests()
try volatileTests()
exit(failures.load(ordering: .relaxed) == 0 ? 0 : 1)
