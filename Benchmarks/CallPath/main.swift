import Glibc
import SkeinDevice
import SkeinNBD

// What the direct call path of device export saves: the same requests, to the same device, by the direct path and by layers as
// a server might have them. No socket is in it, so processor time is the path's alone. Prints one line of JSON for each kind of
// request: microseconds of processor time each, median of the rounds, which are taken in turn.
//
// callpath [REQUESTS-A-ROUND [ROUNDS]]

let words = CommandLine.arguments.dropFirst().compactMap { Int($0) }
let count = words.first ?? 50_000
let rounds = words.dropFirst().first ?? 9

/// Seconds of the processor that this process has used, in all its threads.
func processorSeconds() -> Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func microseconds(_ path: inout some Path, _ batch: Batch) -> Double {
    let batches = max(1, count / Batch.count)
    let begin = processorSeconds()
    for _ in 0..<batches { path.answer(batch) }
    return (processorSeconds() - begin) * 1e6 / Double(batches * Batch.count)
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

let device = try FileDevice.memory(size: Batch.deviceSize)
fill(device)
var direct = DirectPath(device)
var layered = LayeredPath(device, onThread: false)
var threaded = LayeredPath(device, onThread: true)
for (name, command) in [("read of 4 KiB", Command.read), ("CACHE, which asks nothing of memory", .cache)] {
    let batch = Batch(command)
    var figures: [[Double]] = [[], [], []]
    precondition(direct.answered(batch) == layered.answered(batch), "both paths give the same replies")
    for _ in 0..<rounds {
        figures[0].append(microseconds(&direct, batch))
        figures[1].append(microseconds(&layered, batch))
        figures[2].append(microseconds(&threaded, batch))
    }
    let medians = figures.map { "\(median($0))" }
    print(
        "{\"request\": \"\(name)\", \"direct\": \(medians[0]), \"layered\": \(medians[1]), \"threaded\": \(medians[2])}"
    )
}
