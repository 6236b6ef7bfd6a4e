/// Why something can't be done, and what to do about it: one line for the user.
package struct AgentFault: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
