import Glibc

/// Whether the translating header can be loaded into a program, looked at from outside.
enum Reach {
    case reachable
    /// Why not, as the second half of a sentence whose subject is the program.
    case unreachable(String)

    /// Judges the file that will be executed: not a script but its interpreter.
    init(of path: String) {
        if let privilege = Reach.privilege(of: path) {
            self = .unreachable("\(privilege), so the loader ignores LD_PRELOAD for it")
            return
        }
        // What can't be read may still be run: then the loader decides.
        guard let file = try? File(path), let program = Executable(file) else {
            self = .reachable
            return
        }
        self = Reach.judge(program, name: lastPart(path))
    }

    /// Judges a program by its file's content alone.
    static func judge(_ program: Executable, name: String) -> Reach {
        if !program.is64Bit { return .unreachable("is a 32-bit program and the header is a 64-bit library") }
        if program.machine != Executable.ownMachine { return .unreachable("is built for another processor") }
        if program.isGo { return .unreachable("is a Go program, which makes its system calls without libc") }
        guard let loader = program.loader else {
            // The loader itself, used as a command (ld-linux-x86-64.so.2 PROGRAM), is static and loads us.
            if name.hasPrefix("ld-linux") || name == "ld.so" { return .reachable }
            return .unreachable("is statically linked, so no library can be loaded into it")
        }
        let loaderName = lastPart(loader)
        if loaderName.hasPrefix("ld-musl") { return .unreachable("is linked with musl and the header with glibc") }
        if !loaderName.hasPrefix("ld-linux") { return .unreachable("has another loader (\(loader)) than glibc's") }
        return .reachable
    }

    /// Set-user-id, set-group-id or file capabilities, where they will really raise the program's rights:
    /// the loader's secure mode, in the kernel's own terms.
    private static func privilege(of path: String) -> String? {
        guard let status = status(of: path), !privilegesAreIgnored(path) else { return nil }
        if status.st_mode & S_ISUID != 0 && status.st_uid != getuid() { return "is set-user-id" }
        let groupBits = S_ISGID | S_IXGRP
        if status.st_mode & groupBits == groupBits && status.st_gid != getgid() { return "is set-group-id" }
        if getuid() != 0 && attribute("security.capability", of: path) != nil { return "has file capabilities" }
        return nil
    }

    /// Mounts and processes can be told to ignore the set-user-id bits.
    private static func privilegesAreIgnored(_ path: String) -> Bool {
        var system = statvfs()
        if unsafe statvfs(path, &system) == 0 && system.f_flag & UInt(ST_NOSUID) != 0 { return true }
        return Process.mayNotGainPrivileges
    }
}
