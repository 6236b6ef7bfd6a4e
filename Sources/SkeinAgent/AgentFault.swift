/// Why something can't be done, and what to do about it: one line for the user.
package struct AgentFault: Error, CustomStringConvertible {
    /// The exit status where a host has no place on the medium: its name is taken, or all places are.
    static let noPlace: Int32 = 2

    package let description: String
    /// What the program ends with.
    package let status: Int32

    package init(_ description: String, status: Int32 = 1) {
        self.description = description
        self.status = status
    }
}
