import ArgumentParser
import SkeinAgent

struct KeyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "The key that the hosts of a group share.",
        discussion: """
            'skein medium create' makes it. It lies in /etc/skein/keys/GROUP.key for root, in skein/keys of the user's configuration \
            for others, or where --key or SKEIN_KEY_FILE says. Whoever has it can read and change all that goes over the group's media.
            """,
        subcommands: [Show.self, Import.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a group's key, for another host.",
            discussion: "There, 'skein key import GROUP' takes it from standard input or as an argument.")

        @Argument(help: "The group.") var group: String
        @Option(help: ArgumentHelp("Where the key lies.", valueName: "file")) var key: String?

        func run() throws {
            let path = GroupKey.path(group: group, asked: key)
            guard let key = try GroupKey(file: path) else {
                throw AgentFault(
                    "there is no key \(path): 'skein medium create' makes one, 'skein key import \(group)' brings another host's"
                )
            }
            print(key.text)
        }
    }

    struct Import: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Keep a group's key that 'skein key show' printed on another host.")

        @Argument(help: "The group.") var group: String
        @Argument(
            help: ArgumentHelp(
                "The key. Left out, it is read from standard input: other users can't see it in the list of processes then.",
                valueName: "text"))
        var text: String?
        @Option(help: ArgumentHelp("Where to keep it.", valueName: "file")) var key: String?

        func run() throws {
            guard let text = text ?? readLine() else { throw AgentFault("no key came on standard input") }
            let key = try GroupKey(text: text)
            let path = GroupKey.path(group: group, asked: self.key)
            if try GroupKey(file: path) == key {
                print("\(path) has this key already")
                return
            }
            try key.write(to: path)
            print("the key of group '\(group)' is in \(path)")
        }
    }
}
