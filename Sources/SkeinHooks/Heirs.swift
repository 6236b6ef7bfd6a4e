import CSystem
import Synchronization

// Listeners that a new program inherits. The program accepts from the TCP listener; if its header is
// there, the hidden listener must come along, or the clients in its queue wait for nobody. SKEIN_LISTENERS in
// its environment says which is which. If the header won't be there, the hidden listener is shut, in all
// processes that hold it: the listener is TCP's alone from then on.

/// Hidden listeners that the new program gets.
struct Heirs {
    static let maximum = 16
    fileprivate var count = 0
    fileprivate var hidden = InlineArray<16, Int32>(repeating: -1)

    func setInherited(_ on: Bool) { forEach { _ = sk_fcntl($0, F_SETFD, on ? 0 : 1) } }
    func forEach(_ body: (Int32) -> Void) { for index in 0..<count { body(hidden[index]) } }
}

private let variable: StaticString = "SKEIN_LISTENERS="

/// Runs `start` with the hidden listeners to pass on and the environment that names them, and the relay's streams.
func withHeirs(
    of program: Program, _ environment: Strings?, streams: StreamList, _ inheritance: Inheritance,
    _ start: (Heirs, Strings?) -> Int32
) -> Int32 {
    var heirs = Heirs()
    var list = Text(variable)
    var translates: Bool? = nil
    if !streams.isEmpty { translates = unsafe program.willTranslate(environment) }
    inheritance.forEach(.listener) { number, descriptor in
        guard let socket = unsafe streamSocket(descriptor), unsafe !socket.pointee.isSTP else { return }
        if translates == nil { translates = unsafe program.willTranslate(environment) }
        if unsafe translates == true && heirs.count < Heirs.maximum && inheritance.keeps(socket.pointee.hidden) {
            heirs.hidden[heirs.count] = unsafe socket.pointee.hidden
            heirs.count += 1
            list.append(decimal: UInt64(number))
            list.append(":")
            unsafe list.append(decimal: UInt64(socket.pointee.hidden))
            list.append(",")
        } else {
            unsafe leaveToTCP(descriptor, socket)
        }
    }
    guard translates == true else { return unsafe start(heirs, environment) }
    return unsafe list.withCString { listeners in
        unsafe streams.text.withCString { streamNumbers in
            unsafe withEnvironment(
                environment, heirs.count > 0 ? listeners : nil, streams.isEmpty ? nil : streamNumbers
            ) { unsafe start(heirs, $0) }
        }
    }
}

/// Runs `body` with a larger environment.
private func withEnvironment(
    _ environment: Strings?, _ first: UnsafePointer<CChar>?, _ second: UnsafePointer<CChar>?,
    _ body: (Strings?) -> Int32
) -> Int32 {
    var entries = 0
    if let environment = unsafe environment { while unsafe environment[entries] != nil { entries += 1 } }
    return unsafe Int32(
        withScratch(words: entries + 3) { memory in
            let larger = unsafe memory.bindMemory(to: UnsafeMutablePointer<CChar>?.self, capacity: entries + 3)
            var count = 0
            func add(_ entry: UnsafeMutablePointer<CChar>?) {
                unsafe larger[count] = unsafe entry
                count += 1
            }
            for index in 0..<entries { unsafe add(environment![index]) }
            if let first = unsafe first { unsafe add(UnsafeMutablePointer(mutating: first)) }
            if let second = unsafe second { unsafe add(UnsafeMutablePointer(mutating: second)) }
            unsafe larger[count] = nil
            return unsafe Int(body(UnsafePointer(larger)))
        })
}

/// The listener goes where the header isn't: whoever holds its hidden one is told by its end.
func leaveToTCP(_ descriptor: Int32, _ socket: UnsafeMutablePointer<StreamSocket>) {
    _ = unsafe sk_shutdown(socket.pointee.hidden, 2)
    giveBackListenerFlags(descriptor)
}

/// At the start of a program: takes over what SKEIN_LISTENERS lists.
func adoptHeirs() {
    guard var place = unsafe sk_environment("SKEIN_LISTENERS") else { return }
    func number() -> Int32 {
        var value: Int32 = 0
        while let digit = unsafe UInt8(exactly: place.pointee), digit >= 48, digit <= 57, value < 1 << 24 {
            value = value * 10 + Int32(digit) - 48
            unsafe place += 1
        }
        return value
    }
    while unsafe place.pointee != 0 {
        let visible = number()
        guard unsafe place.pointee == 58 /* : */ else { break }
        unsafe place += 1
        let hidden = number()
        guard unsafe place.pointee == 44 /* , */ else { break }
        unsafe place += 1
        adoptHeir(visible, hidden)
    }
    unsafe sk_environment_remove("SKEIN_LISTENERS")
}

private func adoptHeir(_ visible: Int32, _ hidden: Int32) {
    // Another number of a listener that is here already.
    for number in 0..<programEnd {
        guard let socket = unsafe listedSocket(number), unsafe socket.pointee.hidden == hidden else { continue }
        unsafe socket.pointee.descriptors += 1
        return unsafe setEntry(visible, socket, .listener)
    }
    guard let cookie = cookie(of: visible), let bound = boundAddress(visible),
        isNamed(hidden, HiddenName(cookie: cookie))
    else { return }
    _ = sk_fcntl(hidden, F_SETFD, 1)
    guard unsafe rules.allows(bound), let socket = unsafe makeStreamSocket(family: Int32(bound.family)) else {
        _ = sk_shutdown(hidden, 2)
        _ = sk_close(hidden)
        giveBackListenerFlags(visible)
        return
    }
    unsafe beginTranslating(visible, socket, hidden, bound)
}

private func isNamed(_ descriptor: Int32, _ name: HiddenName) -> Bool {
    var address = sockaddr_un()
    var length = UInt32(MemoryLayout<sockaddr_un>.size)
    guard unsafe sk_getsockname(descriptor, &address, &length) == 0, length == name.length else { return false }
    var expected = name.address
    return unsafe memcmp(&address, &expected, Int(length)) == 0
}
