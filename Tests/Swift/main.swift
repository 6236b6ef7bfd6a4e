import Glibc

// The Swift face of STP: module Skein against libskein.so. Run by run.sh.

if let status = runRole() { exit(status) }
group("addresses", addressTests)
group("ownership", ownershipTests)
group("connections", connectionTests)
group("options", optionTests)
group("two processes", processTests)
exit(failures.load(ordering: .relaxed) == 0 ? 0 : 1)
