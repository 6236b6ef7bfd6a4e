/// Why the server can't do what it is told, and what to do. The text is one line for people.
public struct ExportFault: Error, Equatable, Sendable {
    public let text: String
    /// Whether an address can't be had.
    public let isAddress: Bool

    public init(_ text: String, isAddress: Bool = false) {
        self.text = text
        self.isAddress = isAddress
    }
}
