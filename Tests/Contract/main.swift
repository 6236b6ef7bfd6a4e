import CContract
import Glibc

/// The contract suite 'a stream socket': see Sentences.swift for what it covers.
struct Options {
    var filter = ""
    /// Sentences that are left out, whatever their setting.
    var leftOut: Set<String> = []
    var list = false
    var differences = false
    var printTable = false
    var face = Face.all[0]

    init(_ arguments: [String]) {
        var rest = arguments.dropFirst()
        while let argument = rest.popFirst() {
            switch argument {
            case "--filter": filter = rest.popFirst() ?? ""
            case "--leave-out": leftOut.insert(rest.popFirst() ?? "")
            case "--list": list = true
            case "--differences": differences = true
            case "--print-table": printTable = true
            case "--face":
                guard let name = rest.popFirst(), let known = Face.all.first(where: { $0.name == name }) else {
                    Options.refuse("--face takes one of: \(Face.all.map(\.name).joined(separator: ", "))")
                }
                face = known
            default:
                Options.refuse(
                    "usage: contract [--face NAME] [--filter TEXT] [--leave-out SENTENCE]… [--list | --differences | --print-table]"
                )
            }
        }
    }

    private static func refuse(_ message: String) -> Never {
        print(message)
        exit(2)
    }
}

func runAll(_ cases: [(title: String, case: Case)], _ face: Face) -> Int32 {
    var (passed, failed, skipped) = (0, 0, 0)
    for (title, contractCase) in cases {
        switch run(contractCase, on: face) {
        case .passed:
            passed += 1
            print("ok - \(title)")
        case .failed(let reason):
            failed += 1
            print("not ok - \(title): \(reason)")
        case .skipped(let reason):
            skipped += 1
            print("skip - \(title): \(reason)")
        }
        // Also keeps a forked child from printing our buffered lines again.
        fflush(cx_standard_output())
    }
    print("\(passed) passed, \(failed) failed" + (skipped > 0 ? ", \(skipped) skipped" : ""))
    return failed > 0 ? 1 : 0
}

/// Each thing in which faces are meant to differ, and the sentences that hold for which of them.
func printDifferences(_ cases: [Case]) {
    var lines: [(reason: String, sentences: [String])] = []
    for contractCase in cases {
        guard let difference = contractCase.difference else { continue }
        let faces = Contract.allCases.filter(difference.faces.contains).map { "\($0)" }.joined(separator: ", ")
        let sentence = "\(faces): \(contractCase.sentence)"
        if let index = lines.firstIndex(where: { $0.reason == difference.reason }) {
            if !lines[index].sentences.contains(sentence) { lines[index].sentences.append(sentence) }
        } else {
            lines.append((difference.reason, [sentence]))
        }
    }
    for (reason, sentences) in lines {
        print(reason)
        for sentence in sentences { print("  \(sentence)") }
    }
}

let options = Options(CommandLine.arguments)
if options.printTable {
    printStateTable(options.face)
    exit(0)
}
if options.differences {
    printDifferences(allCases())
    exit(0)
}
let chosen = allCases().filter { !options.leftOut.contains($0.sentence) }.compactMap { contractCase in
    contractCase.title(on: options.face).map { (title: $0, case: contractCase) }
}.filter { options.filter.isEmpty || $0.title.contains(options.filter) }
if options.list {
    for (title, _) in chosen { print(title) }
    exit(0)
}
exit(runAll(chosen, options.face))
