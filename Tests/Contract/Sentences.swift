/// All cases, topic by topic; each topic is one file.
func allCases() -> [Case] {
    StateCases.cases + ReceiveCases.cases + SendCases.cases + ConnectCases.cases + ListenCases.cases
        + SharingCases.cases + WakeCases.cases + IdleCases.cases + EpollCases.cases
        + SelectCases.cases + OptionCases.cases + BulkCases.cases + MessageCases.cases
        + OtherCallCases.cases
}

extension Face {
    static let all: [Face] = [.tcp]
}
