import Glibc
import Synchronization

// Parts of a mirror that couldn't be reached: when they are back, they get the content.

extension MirrorDevice {
    private static let microsecondsBetween: UInt32 = 250_000

    /// Watches for lost parts in the background, until none is lost any more or the mirror is gone.
    func recover() {
        guard isRecovering.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
            return
        }
        Thread.start { [weak self] in
            while let mirror = self, mirror.recoverOnce() { usleep(MirrorDevice.microsecondsBetween) }
        }
    }

    /// Rebuilds a part that is back. False where there is nothing to watch for.
    private func recoverOnce() -> Bool {
        let lost = lostParts
        guard !lost.isEmpty else {
            isRecovering.store(false, ordering: .releasing)
            // One that was lost in between has found a watcher.
            return !lostParts.isEmpty && !isRecovering.exchange(true, ordering: .acquiring)
        }
        if let (index, device) = lost.first(where: { $0.device.presence.isThere }) {
            // Where that fails, the part is lost again, or it has failed.
            try? replace(index, with: device)
        }
        return true
    }
}
