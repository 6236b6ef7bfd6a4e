import CContract
import Glibc

/// The contract suite 'a stream socket': see Sentences.swift for what it covers.
struct Options {
    var filter = ""
    var list = false
    var printTable = false
    var face = Face.tcp

    init(_ arguments: [String]) {
        var rest = arguments.dropFirst()
        while let argument = rest.popFirst() {
            switch argument {
            case "--filter": filter = rest.popFirst() ?? ""
            case "--list": list = true
            case "--print-table": printTable = true
            case "--face":
                guard let name = rest.popFirst(), let known = Face.all.first(where: { $0.name == name }) else {
                    Options.refuse("--face takes one of: \(Face.all.map(\.name).joined(separator: ", "))")
                }
                face = known
            default: Options.refuse("usage: contract [--filter TEXT] [--list] [--face NAME] [--print-table]")
            }
        }
    }

    private static func refuse(_ message: String) -> Never {
        print(message)
        exit(2)
    }
}

func runAll(_ cases: [Case], _ face: Face) -> Int32 {
    var (passed, failed, skipped) = (0, 0, 0)
    for contractCase in cases {
        switch run(contractCase, on: face) {
        case .passed:
            passed += 1
            print("ok - \(contractCase.sentence)")
        case .failed(let reason):
            failed += 1
            print("not ok - \(contractCase.sentence): \(reason)")
        case .skipped(let reason):
            skipped += 1
            print("skip - \(contractCase.sentence): \(reason)")
        }
        // Also keeps a forked child from printing our buffered lines again.
        fflush(cx_standard_output())
    }
    print("\(passed) passed, \(failed) failed" + (skipped > 0 ? ", \(skipped) skipped" : ""))
    return failed > 0 ? 1 : 0
}

let options = Options(CommandLine.arguments)
if options.printTable {
    printStateTable(options.face)
    exit(0)
}
let chosen = allCases().filter { options.filter.isEmpty || $0.sentence.contains(options.filter) }
if options.list {
    for contractCase in chosen { print(contractCase.sentence) }
    exit(0)
}
exit(runAll(chosen, options.face))
