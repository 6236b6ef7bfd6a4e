import Glibc

/// A thread without a name or an end that anybody waits for. Signals go to others.
public enum Thread {
    public static func start(_ body: @escaping @Sendable () -> Void) {
        var handle = pthread_t()
        let box = unsafe Unmanaged.passRetained(Body(run: body))
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
        let result = unsafe pthread_create(
            &handle, nil,
            { argument in
                unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
        precondition(result == 0, "the system has no thread for us")
        _ = pthread_detach(handle)
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
