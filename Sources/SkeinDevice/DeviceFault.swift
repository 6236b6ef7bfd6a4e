import CSystem

/// Why a device can't be had, and what to do.
public struct DeviceFault: Error, Equatable, Sendable {
    public let text: String

    public init(_ text: String) { self.text = text }

    init(opening path: String, errno: Int32, readOnly: Bool) {
        let advice =
            switch errno {
            case ENOENT: "is missing"
            case EACCES, EROFS, EPERM:
                readOnly
                    ? "can't be read by this user" : "can't be written by this user; --read-only serves it for reading"
            case EBUSY: "is in use: unmount it, or serve it with --read-only"
            case EISDIR: "is a folder, not a file or a block device"
            default: unsafe String(cString: strerror(errno))
            }
        text = "\(path) \(advice)"
    }
}
