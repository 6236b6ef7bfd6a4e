/// What is wrong with a rule, a file of rules, or a variable that holds one.
package struct Fault {
    package enum Kind: Error {
        // Of a word.
        case term, address, prefix, port, order, list, flag, spin, key, setting, section, value
        // Of a whole file.
        case symbolicLink, notAFile, notRoots, notOwn, writable
        case tooLarge, noText, unreadable(Int32), noMemory
    }

    package let kind: Kind
    /// What it is about, as it is written; nil for a whole file.
    package let word: Text?
    /// From 1; 0 for a variable and for a whole file.
    package let line: UInt
    package let origin: Origin
    /// The variable, where the origin is the environment.
    package let key: RuleKey?

    /// Somebody else may have made the file: it is as if it weren't there. Other faults are mistakes in a file
    /// of the right person.
    package var isOfTrust: Bool {
        switch kind {
        case .symbolicLink, .notAFile, .notRoots, .notOwn, .writable: true
        default: false
        }
    }
}

extension Fault {
    /// The whole message: where, what, and what to do. `path` is that of the file it is in.
    package func message(_ path: PathText) -> PathText {
        var text = PathText()
        if let key {
            text.append(key.variable)
        } else {
            path.withBytes { text.append($0) }
        }
        if line > 0 {
            text.append(":")
            text.append(decimal: UInt64(line))
        }
        if let word {
            text.append(": '")
            word.withBytes { text.append($0) }
            text.append("'")
        }
        text.append(" ")
        text.append(kind.text)
        if case .unreadable(let error) = kind {
            text.append(" (errno ")
            text.append(decimal: UInt64(error))
            text.append(")")
        }
        return text
    }
}

extension Fault.Kind {
    /// The second half of a sentence whose subject is the word or the file.
    package var text: StaticString {
        switch self {
        case .term:
            "is no port, range of ports or address; write 80, 8000-8010, 10.0.0.0/8, 10.0.0.5:80, [::1]:80 or any"
        case .address: "is no IPv4 or IPv6 address; names are not looked up here"
        case .prefix: "has no such prefix; one of IPv4 goes to 32, one of IPv6 to 128"
        case .port: "is no port; ports go from 1 to 65535"
        case .order: "ends before it begins; write the lower port first"
        case .list: "is a list by itself; leave out the other terms"
        case .flag: "is no answer; write yes or no"
        case .spin: "is no way to wait; write off, adaptive or fixed"
        case .key: "is no key; there are only, not, strict, off and spin"
        case .setting: "is no setting; write KEY = VALUE"
        case .section: "is no section; write [program NAME]"
        case .value: "has no value; write one (none for an empty list) or remove the line"
        case .symbolicLink: "is a symbolic link, and ignored; put the file itself there"
        case .notAFile: "is no plain file, and ignored; remove it"
        case .notRoots: "does not belong to root, and is ignored; 'chown root' it"
        case .notOwn: "belongs to another user, and is ignored; 'chown' it"
        case .writable: "can be written by others, and is ignored; 'chmod go-w' it"
        case .tooLarge: "is larger than 64 KiB; shorten it by ranges and prefixes"
        case .noText: "is no text from here on; write it anew"
        case .unreadable: "can't be read; look at its permissions and those of its folders"
        case .noMemory: "finds no memory; raise the limit of the program"
        }
    }
}
