import Glibc
import SkeinDevice
import Synchronization

// What is each kind's own.

func arrayTests() throws {
    let parts = try (0..<3).map { _ in try FileDevice.memory(size: 8192) }
    let chain = IOP(try ConcatenatedDevice(parts))
    check(chain.length.bytes, is: 24576, "concatenation: the size is the sum")
    check(chain.write(noise(10_000), at: 8000), is: .done, "concatenation: a write crosses the ends of parts")
    check(
        IOP(parts[0]).read(at: 8000, count: 192) == Array(noise(10_000)[..<192]),
        "concatenation: the first part has its piece")
    check(
        IOP(parts[2]).read(at: 0, count: 1616) == Array(noise(10_000)[8384...]),
        "concatenation: the last part has its piece")
    check(chain.send(.resize, count: 1), is: .failed(EOPNOTSUPP), "concatenation: its size doesn't change")

    let striped = IOP(try StripedDevice(parts, unit: 4096))
    check(striped.length.bytes, is: 24576, "stripes: the size is that of the whole units")
    for unit in 0..<6 { _ = striped.write([UInt8](repeating: UInt8(unit), count: 4096), at: UInt64(unit) * 4096) }
    let layout = parts.map { IOP($0).read(at: 0, count: 8192).map { [$0[0], $0[4096]] } }
    check(layout == [[0, 3], [1, 4], [2, 5]], "stripes: units lie on the devices in turn", saw: "\(layout)")
    check(
        fault { try StripedDevice([parts[0], FileDevice.memory(size: 100)]) } != nil,
        "stripes: devices without one unit are refused")
    check(fault { try ConcatenatedDevice([parts[0]]) } != nil, "arrays: one device is none")
}

func loanTests() throws {
    let memory = try FileDevice.memory(size: 3 << 20)
    let view = IOP(ReadOnlyView(memory))
    let iop = IOP(memory)
    check(unsafe iop.lend(0, 4096) == nil, "memory: a hole isn't lent")
    check(iop.write(noise(2 << 20), at: 0), is: .done, "memory: it is written")
    for (offset, count) in [(0, 2 << 20), (4097, 1), (5000, 1 << 20)] {
        let lent = unsafe view.lend(UInt64(offset), UInt64(count))
        check(
            unsafe lent.map { unsafe Array(UnsafeRawBufferPointer(start: $0, count: count)) }
                == Array(noise(2 << 20)[offset..<offset + count]),
            "memory: \(count) bytes at \(offset) are lent, by a view too")
    }
    check(unsafe iop.lend((2 << 20) - 1, 4097) == nil, "memory: a range that ends in a hole isn't lent")
    check(unsafe iop.lend((3 << 20) - 1, 2) == nil, "memory: nothing is lent beyond the end")
    check(iop.send(.resize, count: 4096), is: .done, "memory: it becomes smaller")
    check(unsafe iop.lend(4096, 1) == nil, "memory: what was cut off isn't lent")
    check(unsafe iop.lend(0, 4096) != nil, "memory: what is left is lent")
}

func mirrorTests() throws {
    let failing = try FailingDevice(FileDevice.memory(size: size))
    let good = try FileDevice.memory(size: size)
    let mirror = try MirrorDevice([failing, good])
    let iop = IOP(mirror)
    check(iop.write(noise(5000), at: 100), is: .done, "mirror: it is written")
    check(IOP(good).read(at: 100, count: 5000) == noise(5000), "mirror: each device has the content")
    failing.isBroken.store(true, ordering: .relaxed)
    check(iop.read(at: 100, count: 5000) == noise(5000), "mirror: a read goes on with the other device when one fails")
    check(mirror.working, is: 1, "mirror: the one that failed is left out")
    check(iop.write(noise(5000, seed: 2), at: 9000), is: .done, "mirror: a write goes on with the other device")
    failing.isBroken.store(false, ordering: .relaxed)
    check(
        iop.read(at: 9000, count: 5000) == noise(5000, seed: 2),
        "mirror: one that works again isn't asked, since it lacks a write")
    check(mirror.description.contains("failed"), "mirror: the description says which one failed")

    let new = try FileDevice.memory(size: size)
    check(
        fault { try mirror.replace(0, with: FileDevice.memory(size: 10)) } != nil,
        "mirror: a device that is too small is refused")
    check(fault { try mirror.replace(1, with: new) } != nil, "mirror: the last one with the content isn't replaced")
    let isDone = Done()
    let counts = Done()
    together([
        {
            check(fault { try mirror.replace(0, with: new) } == nil, "mirror: a device is rebuilt")
            isDone.count.store(1, ordering: .releasing)
        },
        {
            var round: UInt64 = 0
            repeat {
                let bytes = noise(3000, seed: round + 7)
                if iop.write(bytes, at: round * 3000 % (size - 3000)) != .done {
                    counts.count.add(1, ordering: .relaxed)
                }
                round += 1
            } while isDone.count.load(ordering: .acquiring) == 0 || round < 2000
        },
    ])
    check(counts.count.load(ordering: .relaxed), is: 0, "mirror: requests go on during a rebuild")
    check(mirror.working, is: 2, "mirror: the rebuilt device works")
    check(
        IOP(new).read(at: 0, count: size) == IOP(good).read(at: 0, count: size),
        "mirror: and has all of the content, with what came meanwhile")

    failing.isBroken.store(true, ordering: .relaxed)
    let last = IOP(try MirrorDevice([failing, FailingDevice(good)]))
    check(last.write([1], at: 0), is: .done, "mirror: with one device left it is written")
    let both = IOP(try MirrorDevice([failing, failing]))
    check(both.write([1], at: 0), is: .failed(EIO), "mirror: with none left it fails")
    check(both.read(at: 0, count: 1) == nil, "mirror: and can't be read")
}

func viewTests() throws {
    let device = try file("viewed")
    let view = IOP(ReadOnlyView(device))
    check(view.read(at: 0, count: size) == IOP(device).read(at: 0, count: size), "read-only view: it is read")
    check(view.write([1], at: 0), is: .failed(EPERM), "read-only view: it isn't written")
    check(view.send(.zeroes, at: 0, count: 5), is: .failed(EPERM), "read-only view: nor zeroed")
    check(!view.features.contains(.writable), "read-only view: it says so")

    let before = IOP(device).read(at: 0, count: size)
    let overlay = IOP(try OverlayDevice(base: device, changes: FileDevice.memory(size: size)))
    check(overlay.read(at: 0, count: size) == before, "overlay: at first it is the base")
    check(overlay.write(noise(100_000), at: 4000), is: .done, "overlay: it is written")
    check(overlay.send(.zeroes, at: 200_000, count: 5), is: .done, "overlay: and zeroed")
    check(IOP(device).read(at: 0, count: size) == before, "overlay: the base stays as it was")
    check(
        fault { try OverlayDevice(base: device, changes: FileDevice.memory(size: 5)) } != nil,
        "overlay: changes need room")

    let memory = IOP(try FileDevice.memory(size: size))
    check(
        memory.extents(at: 0, count: size), is: [Extent(length: size, kind: [.hole, .zero])],
        "memory: it is one hole at first")
    check(memory.send(.resize, count: 2 * size), is: .done, "memory: its size can change")
    check(memory.length.bytes, is: 2 * size, "memory: and is seen")
    check(
        fault { try FileDevice(path: "\(folder)/nothing", readOnly: true) }?.text.contains("missing") == true,
        "file: one that is missing is named")
}

func volatileTests() throws {
    let beneath = try file("settled", filled: false)
    let below = IOP(beneath)
    let iop = IOP(try VolatileDevice(beneath))
    let none = [UInt8](repeating: 0, count: 10_000)
    check(iop.write(noise(10_000), at: 1000), is: .done, "volatile: it is written")
    check(iop.read(at: 1000, count: 10_000) == noise(10_000), "volatile: and read")
    check(below.read(at: 1000, count: 10_000) == none, "volatile: the device below has nothing of it yet")
    check(iop.send(.flush), is: .done, "volatile: it is flushed")
    check(below.read(at: 1000, count: 10_000) == noise(10_000), "volatile: then the device below has it")
    check(iop.write(noise(10_000, seed: 3), at: 100_000, .durable), is: .done, "volatile: it is written durably")
    check(
        below.read(at: 100_000, count: 10_000) == noise(10_000, seed: 3), "volatile: the device below has that at once")
    check(iop.write([1], at: size - 1), is: .done, "volatile: its last byte is written")
    check(iop.send(.zeroes, .durable, at: 100_000, count: 10_000), is: .done, "volatile: and a range zeroed durably")
    check(below.read(at: 100_000, count: 10_000) == none, "volatile: the device below is zeroed")
    check(below.read(at: size - 1, count: 1) == [0], "volatile: and has nothing else")
}

func blockDeviceTests(_ path: String) throws {
    let iop = IOP(try FileDevice(path: path, readOnly: false))
    check(
        fault { try FileDevice(path: path, readOnly: false) }?.text.contains("in use") == true,
        "a block device: somebody else who writes is refused")
    check(fault { try FileDevice(path: path, readOnly: true) } == nil, "a block device: somebody who reads is not")
    check(iop.send(.resize, count: 4096), is: .failed(EPERM), "a block device: its size doesn't change")
    check(!iop.features.contains(.resize), "a block device: and it says so")
}

/// A count that threads share.
final class Done: Sendable {
    let count = Atomic(0)
}

func fault<Result>(_ body: () throws -> Result) -> DeviceFault? {
    do {
        _ = try body()
        return nil
    } catch {
        return error as? DeviceFault
    }
}
