import SkeinDevice

// Devices and addresses as bytes. Open files go beside them, in their order.

extension DeviceParcel {
    /// The files of all parts, in the order in which a reader takes them.
    var allFiles: [Int32] { files + parts.flatMap(\.allFiles) }
}

extension ByteWriter {
    mutating func put(_ parcel: DeviceParcel) {
        put(parcel.kind.rawValue)
        put(parcel.text)
        put(parcel.numbers.count)
        for number in parcel.numbers { put(number) }
        put(parcel.files.count)
        put(parcel.parts.count)
        for part in parcel.parts { put(part) }
    }

    mutating func put(_ address: NBDAddress) {
        switch address {
        case .tcp(let host, let port):
            put(0 as UInt8)
            put(host) { $0.put($1) }
            put(port)
        case .unix(let path):
            put(1 as UInt8)
            put(path)
        case .stp(let address):
            put(2 as UInt8)
            put(address)
        }
    }
}

extension ByteReader {
    /// Takes its files from the beginning of the list.
    mutating func parcel(_ files: inout [Int32]) throws(ExportFault) -> DeviceParcel {
        let kind: DeviceParcel.Kind = try choice()
        let text = try text()
        var numbers: [UInt64] = []
        for _ in 0..<(try count()) { numbers.append(try number()) }
        let own = try number(Int.self)
        guard (0...files.count).contains(own) else { throw ExportFault("a device without its files") }
        let ownFiles = Array(files[..<own])
        files.removeFirst(own)
        var parts: [DeviceParcel] = []
        for _ in 0..<(try count()) { parts.append(try parcel(&files)) }
        return DeviceParcel(kind, text: text, numbers: numbers, files: ownFiles, parts: parts)
    }

    mutating func address() throws(ExportFault) -> NBDAddress {
        switch try number(UInt8.self) {
        case 0:
            .tcp(host: try optional { reader throws(ExportFault) in try reader.text() }, port: try number())
        case 1: .unix(path: try text())
        default: .stp(address: try text())
        }
    }
}
