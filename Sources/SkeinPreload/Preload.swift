/// This library stands in for TCP: see `Sockets.swift`.
let translates = true
