/// All cases, topic by topic; each topic is one file.
func allCases() -> [Case] {
    StateCases.cases + DifferenceCases.cases + ReceiveCases.cases + SendCases.cases + ConnectCases.cases
        + ListenCases.cases
        + SharingCases.cases + WakeCases.cases + IdleCases.cases + EpollCases.cases + EpollNumberCases.cases
        + SelectCases.cases + OptionCases.cases + BulkCases.cases + MessageCases.cases
        + UrgentCases.cases + OtherCallCases.cases + SpliceCases.cases + RefusalCases.cases
}

extension Face {
    /// The first is the one that runs unless another is named. A program that links libskein.so has more of them, and
    /// its TCP sockets must stay TCP.
    #if STP
        static let all: [Face] = [.stp, .swift, .tcp]
    #else
        static let all: [Face] = [.tcp]
    #endif
}
