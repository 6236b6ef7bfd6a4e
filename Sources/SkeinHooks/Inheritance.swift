import CSystem

/// What a new program gets: what is open here and not close-on-exec, and what the actions of posix_spawn make of it.
@safe
struct Inheritance {
    private let actions: SpawnActions?

    /// Of exec.
    init() { unsafe actions = nil }
    init(_ actions: SpawnActions?) { unsafe self.actions = unsafe actions }

    /// Calls `body` with each number under which the new program has something of this kind, and the number of that here.
    func forEach(_ wanted: Kind, _ body: (_ number: Int32, _ descriptor: Int32) -> Void) {
        for number in 0..<Int32(programEnd) where kind(entry(number)) == wanted && staysInPlace(number) {
            body(number, number)
        }
        for index in 0..<actionCount {
            let number = unsafe sk_spawn_target(actions, index)
            guard number >= 0 else { continue }
            let descriptor = unsafe sk_spawn_origin(actions, number)
            if descriptor >= 0 && kind(entry(descriptor)) == wanted { body(number, descriptor) }
        }
    }

    /// Whether the new program has the descriptor under any number.
    func includes(_ descriptor: Int32) -> Bool {
        if staysInPlace(descriptor) { return true }
        for index in 0..<actionCount {
            let number = unsafe sk_spawn_target(actions, index)
            if unsafe number >= 0 && sk_spawn_origin(actions, number) == descriptor { return true }
        }
        return false
    }

    /// Whether a number that the new program is to have beside the others is free for that.
    func keeps(_ number: Int32) -> Bool { unsafe sk_spawn_origin(actions, number) == number }

    /// Whether the number would be closed by nothing but the exec.
    func closesAtExec(_ number: Int32) -> Bool { isUntouched(number) && !isInherited(number) }

    private var actionCount: Int32 { unsafe actions?.pointee.__used ?? 0 }

    private func staysInPlace(_ number: Int32) -> Bool { isUntouched(number) && isInherited(number) }

    /// No action closes it or puts something there.
    private func isUntouched(_ number: Int32) -> Bool {
        for index in 0..<actionCount where unsafe sk_spawn_target(actions, index) == number { return false }
        return keeps(number)
    }
}

func isInherited(_ descriptor: Int32) -> Bool { sk_fcntl(descriptor, F_GETFD, 0) & 1 == 0 }
