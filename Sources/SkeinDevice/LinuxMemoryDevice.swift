import CSystem

extension FileDevice {
    /// Memory of this process, sparse until it is written: a file that has no name.
    public static func memory(size: UInt64) throws(DeviceFault) -> FileDevice {
        let made = unsafe "skein-device".withCString { unsafe sk_memfd_create($0, UInt32(MFD_CLOEXEC)) }
        guard made >= 0, sk_ftruncate(Int32(made), off_t(clamping: size)) == 0 else {
            throw DeviceFault("there is no memory device of \(size) bytes to be had")
        }
        return FileDevice(adopting: Int32(made), path: "in memory", readOnly: false)
    }
}
