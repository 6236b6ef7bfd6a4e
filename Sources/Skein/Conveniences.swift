// What would be the same few lines in every program.

extension Socket {
    /// A socket connected to `address`: STPsocket and STPconnect.
    public init(connectedTo address: Address) throws(SocketError) {
        let socket = try Socket()
        try socket.connect(to: address)
        self = socket
    }

    /// A socket that listens on `address`, or on a free port: STPsocket, STPbind and STPlisten.
    public init(listeningOn address: Address = Address(port: 0), backlog: Int = 128) throws(SocketError) {
        let socket = try Socket()
        try socket.bind(to: address)
        try socket.listen(backlog: backlog)
        self = socket
    }
}
