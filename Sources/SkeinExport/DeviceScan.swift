import Glibc
import SkeinDevice

/// Devices that a folder or a pattern names, as `/dev/disk/by-id` or `/srv/*.img`.
enum DeviceScan {
    /// Nil where the path is one device, or none.
    static func find(_ path: String) -> [DeviceSpecification]? {
        var status = stat()
        guard let kind = kind(path, &status) else {
            guard path.contains(where: special.contains) else { return nil }
            return devices(matching: path)
        }
        guard kind == mode_t(S_IFDIR) else { return nil }
        let escaped = path.map { special.contains($0) || $0 == "\\" ? "\\\($0)" : "\($0)" }.joined()
        return devices(matching: escaped + (path.hasSuffix("/") ? "*" : "/*"))
    }

    private static let special: Set<Character> = ["*", "?", "["]

    private static func kind(_ path: String, _ status: inout stat) -> mode_t? {
        unsafe stat(path, &status) == 0 ? status.st_mode & mode_t(S_IFMT) : nil
    }

    /// Files and block devices, in the order of their names. A device with several names is taken by the first.
    private static func devices(matching pattern: String) -> [DeviceSpecification] {
        var found = unsafe glob_t()
        defer { unsafe globfree(&found) }
        guard unsafe glob(pattern, 0, nil, &found) == 0 else { return [] }
        var devices: [DeviceSpecification] = []
        var seen: Set<dev_t> = []
        for index in 0..<Int(unsafe found.gl_pathc) {
            guard let text = unsafe found.gl_pathv[index] else { continue }
            let path = unsafe String(cString: text)
            var status = stat()
            switch kind(path, &status) {
            case mode_t(S_IFREG): break
            case mode_t(S_IFBLK) where seen.insert(status.st_rdev).inserted: break
            default: continue
            }
            devices.append(DeviceSpecification(path: path))
        }
        return devices
    }
}
