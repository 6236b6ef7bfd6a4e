import Logging

/// What the server tells, each once and in one place.
public struct ServerLog: Sendable {
    private let logger: Logger

    public init(_ logger: Logger) { self.logger = logger }

    func connectionBegan(_ descriptor: Int32) { logger.debug("connection \(descriptor) began") }

    func connectionEnded(_ descriptor: Int32, _ reason: String) {
        logger.debug("connection \(descriptor) ended: \(reason)")
    }

    /// A step of the initialisation or of the end.
    public func step(_ text: String) { logger.info("\(text)") }

    public func warn(_ text: String) { logger.warning("\(text)") }
}
