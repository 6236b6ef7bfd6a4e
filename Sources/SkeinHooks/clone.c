// Processes that a program makes past fork: by clone, or by a system call of its own choice. Both functions are
// variadic, which Swift can't declare.
#include "../CSystem/include/system.h"

#include <sched.h>
#include <stdarg.h>

#define EXPORTED __attribute__((visibility("default")))

extern int close(int descriptor);
extern int setns(int descriptor, int kinds);
extern int unshare(int kinds);

typedef long system_call(long number, long a, long b, long c, long d, long e, long f);
typedef int clone_call(int (*function)(void *), void *stack, int flags, void *argument, ...);

static struct {
    void (*before)(void);
    void (*in_parent)(int child);
    void (*in_child)(void);
} watch;
static void (*watch_filter)(const void *program);
static system_call *next_system_call;
static clone_call *next_clone;

__attribute__((visibility("hidden")))
void sk_watch_clones(void (*before)(void), void (*in_parent)(int), void (*in_child)(void)) {
    watch.before = before;
    watch.in_parent = in_parent;
    watch.in_child = in_child;
    next_clone = (clone_call *)dlsym(RTLD_NEXT, "clone");
    next_system_call = (system_call *)dlsym(RTLD_NEXT, "syscall");
}

__attribute__((visibility("hidden")))
void sk_watch_filters(void (*filter)(const void *program)) { watch_filter = filter; }

/* A process with memory of its own, as fork makes it; a stack beside it would be no place to return to. */
static int copies(unsigned long flags, unsigned long stack) {
    return (flags & (CLONE_VM | CLONE_THREAD)) == 0 && stack == 0;
}

static int makes_process(long number, long first, long second) {
    switch (number) {
#ifdef SYS_fork
    case SYS_fork: return 1;
#endif
    case SYS_clone: return copies((unsigned long)first, (unsigned long)second);
    case SYS_clone3: {
        // struct clone_args: eight bytes each, the flags first and the stack as the sixth.
        const unsigned long *arguments = (const unsigned long *)first;
        return second >= 48 && copies(arguments[0], arguments[5]);
    }
    default: return 0;
    }
}

/* Before set-up, when an allocator or a sanitizer may call: nothing to guard, and nothing found yet. */
static long call_directly(long number, long a, long b, long c, long d, long e, long f) {
    long result = sk_syscall6(number, a, b, c, d, e, f);
    if (result >= 0 || result < -4095) return result;
    errno = (int)-result;
    return -1;
}

__attribute__((noinline))
static long make_process(system_call *next, long number, long a, long b, long c, long d, long e) {
    watch.before();
    long child = next(number, a, b, c, d, e, 0);
    if (child == 0) watch.in_child();
    else watch.in_parent((int)child);
    return child;
}

/* Six arguments, whatever was passed: the C library's own function takes the registers as they are, too. */
EXPORTED system_call hook_syscall __asm__("syscall");
long hook_syscall(long number, long a, long b, long c, long d, long e, long f) {
    // How some programs (libuv's, so node's) close their connections.
    if (number == SYS_close) return close((int)a);
    if (number == SYS_setns) return setns((int)a, (int)b);
    if (number == SYS_unshare) return unshare((int)a);
    system_call *next = next_system_call ? next_system_call : call_directly;
    // The C library has no function for it: programs and libseccomp call it so.
    if (number == SYS_seccomp && watch_filter && (a == 0 || a == 1)) watch_filter(a == 1 ? (const void *)c : NULL);
    if (watch.before && makes_process(number, a, b)) return make_process(next, number, a, b, c, d, e);
    // A jump: what is made with a stack of its own finds nothing of this function there to return through.
    __attribute__((musttail)) return next(number, a, b, c, d, e, f);
}

struct beginning {
    int (*function)(void *);
    void *argument;
};

static int begin(void *context) {
    struct beginning beginning = *(struct beginning *)context;
    watch.in_child();
    return beginning.function(beginning.argument);
}

EXPORTED int clone(int (*function)(void *), void *stack, int flags, void *argument, ...) {
    va_list list;
    va_start(list, argument);
    void *parent_number = va_arg(list, void *), *storage = va_arg(list, void *), *child_number = va_arg(list, void *);
    va_end(list);
    clone_call *next = next_clone ? next_clone : (clone_call *)dlsym(RTLD_NEXT, "clone");
    if (!watch.before || !function || (flags & (CLONE_VM | CLONE_THREAD)))
        return next(function, stack, flags, argument, parent_number, storage, child_number);
    // The child reads its own copy.
    struct beginning beginning = {function, argument};
    watch.before();
    int child = next(begin, stack, flags, &beginning, parent_number, storage, child_number);
    watch.in_parent(child);
    return child;
}
