// What the core needs of Linux that Swift cannot express: inline system calls, errno, macros of the
// C headers, thread-local words. Header only, because Embedded Swift has no Glibc module and because
// the hooks must not call the very libc functions that they stand in for.

#ifndef SKEIN_SYSTEM_H
#define SKEIN_SYSTEM_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/inet_diag.h>
#include <linux/memfd.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

// MARK: System calls. The result is the kernel's: a value, or minus the errno.

#if defined(__x86_64__)
static inline long sk_syscall6(long n, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline long sk_syscall6(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "Skein runs on x86-64 and arm64 Linux"
#endif

#define SK_P(p) ((long)(p))

static inline long sk_close(int fd) { return sk_syscall6(SYS_close, fd, 0, 0, 0, 0, 0); }
static inline long sk_dup3(int from, int to, int flags) { return sk_syscall6(SYS_dup3, from, to, flags, 0, 0, 0); }
static inline long sk_dup(int fd) { return sk_syscall6(SYS_dup, fd, 0, 0, 0, 0, 0); }
static inline long sk_fcntl(int fd, int command, long argument) {
    return sk_syscall6(SYS_fcntl, fd, command, argument, 0, 0, 0);
}
static inline long sk_ioctl(int fd, unsigned long request, void *argument) {
    return sk_syscall6(SYS_ioctl, fd, (long)request, SK_P(argument), 0, 0, 0);
}
static inline long sk_read(int fd, void *buffer, size_t size) {
    return sk_syscall6(SYS_read, fd, SK_P(buffer), (long)size, 0, 0, 0);
}
static inline long sk_write(int fd, const void *buffer, size_t size) {
    return sk_syscall6(SYS_write, fd, SK_P(buffer), (long)size, 0, 0, 0);
}
static inline long sk_pread(int fd, void *buffer, size_t size, off_t offset) {
    return sk_syscall6(SYS_pread64, fd, SK_P(buffer), (long)size, offset, 0, 0);
}
static inline long sk_pwrite(int fd, const void *buffer, size_t size, off_t offset) {
    return sk_syscall6(SYS_pwrite64, fd, SK_P(buffer), (long)size, offset, 0, 0);
}
static inline long sk_lseek(int fd, off_t offset, int whence) {
    return sk_syscall6(SYS_lseek, fd, offset, whence, 0, 0, 0);
}
static inline long sk_openat(int folder, const char *path, int flags, unsigned mode) {
    return sk_syscall6(SYS_openat, folder, SK_P(path), flags, (long)mode, 0, 0);
}
static inline long sk_getdents(int folder, void *entries, size_t size) {
    return sk_syscall6(SYS_getdents64, folder, SK_P(entries), (long)size, 0, 0, 0);
}
static inline long sk_access(int folder, const char *path, int mode) {
    return sk_syscall6(SYS_faccessat, folder, SK_P(path), mode, 0, 0, 0);
}
static inline long sk_mkdirat(int folder, const char *path, unsigned mode) {
    return sk_syscall6(SYS_mkdirat, folder, SK_P(path), (long)mode, 0, 0, 0);
}
static inline long sk_fchmod(int fd, unsigned mode) { return sk_syscall6(SYS_fchmod, fd, (long)mode, 0, 0, 0, 0); }
static inline long sk_ftruncate(int fd, off_t size) { return sk_syscall6(SYS_ftruncate, fd, size, 0, 0, 0, 0); }
static inline long sk_fallocate(int fd, int mode, off_t offset, off_t size) {
    return sk_syscall6(SYS_fallocate, fd, mode, offset, size, 0, 0);
}
static inline long sk_renameat(int from, const char *old_path, int to, const char *new_path) {
    return sk_syscall6(SYS_renameat2, from, SK_P(old_path), to, SK_P(new_path), 0, 0);
}
static inline long sk_unlinkat(int folder, const char *path, int flags) {
    return sk_syscall6(SYS_unlinkat, folder, SK_P(path), flags, 0, 0, 0);
}
static inline long sk_flock(int fd, int operation) { return sk_syscall6(SYS_flock, fd, operation, 0, 0, 0, 0); }
static inline long sk_readlinkat(int folder, const char *path, char *buffer, size_t size) {
    return sk_syscall6(SYS_readlinkat, folder, SK_P(path), SK_P(buffer), (long)size, 0, 0);
}
static inline long sk_socket(int domain, int type, int protocol) {
    return sk_syscall6(SYS_socket, domain, type, protocol, 0, 0, 0);
}
static inline long sk_bind(int fd, const void *address, unsigned length) {
    return sk_syscall6(SYS_bind, fd, SK_P(address), length, 0, 0, 0);
}
static inline long sk_listen(int fd, int backlog) { return sk_syscall6(SYS_listen, fd, backlog, 0, 0, 0, 0); }
static inline long sk_connect(int fd, const void *address, unsigned length) {
    return sk_syscall6(SYS_connect, fd, SK_P(address), length, 0, 0, 0);
}
static inline long sk_accept4(int fd, void *address, void *length, int flags) {
    return sk_syscall6(SYS_accept4, fd, SK_P(address), SK_P(length), flags, 0, 0);
}
static inline long sk_pipe(int *pair, int flags) { return sk_syscall6(SYS_pipe2, SK_P(pair), flags, 0, 0, 0, 0); }
static inline long sk_socketpair(int domain, int type, int protocol, int *pair) {
    return sk_syscall6(SYS_socketpair, domain, type, protocol, SK_P(pair), 0, 0);
}
static inline long sk_shutdown(int fd, int how) { return sk_syscall6(SYS_shutdown, fd, how, 0, 0, 0, 0); }
static inline long sk_getsockopt(int fd, int level, int name, void *value, unsigned *length) {
    return sk_syscall6(SYS_getsockopt, fd, level, name, SK_P(value), SK_P(length), 0);
}
static inline long sk_setsockopt(int fd, int level, int name, const void *value, unsigned length) {
    return sk_syscall6(SYS_setsockopt, fd, level, name, SK_P(value), length, 0);
}
static inline long sk_getsockname(int fd, void *address, void *length) {
    return sk_syscall6(SYS_getsockname, fd, SK_P(address), SK_P(length), 0, 0, 0);
}
static inline long sk_getpeername(int fd, void *address, void *length) {
    return sk_syscall6(SYS_getpeername, fd, SK_P(address), SK_P(length), 0, 0, 0);
}
static inline long sk_sendto(int fd, const void *data, size_t size, int flags, const void *address, unsigned length) {
    return sk_syscall6(SYS_sendto, fd, SK_P(data), (long)size, flags, SK_P(address), length);
}
static inline long sk_recvfrom(int fd, void *data, size_t size, int flags) {
    return sk_syscall6(SYS_recvfrom, fd, SK_P(data), (long)size, flags, 0, 0);
}
static inline long sk_sendmsg(int fd, const struct msghdr *message, int flags) {
    return sk_syscall6(SYS_sendmsg, fd, SK_P(message), flags, 0, 0, 0);
}
static inline long sk_recvmsg(int fd, struct msghdr *message, int flags) {
    return sk_syscall6(SYS_recvmsg, fd, SK_P(message), flags, 0, 0, 0);
}
/// `timeout` may be NULL; `mask` may be NULL and is the kernel's, 8 bytes.
static inline long sk_ppoll(struct pollfd *fds, unsigned long count, const struct timespec *timeout, const void *mask) {
    struct timespec copy;
    if (timeout) copy = *timeout;
    return sk_syscall6(SYS_ppoll, SK_P(fds), (long)count, timeout ? SK_P(&copy) : 0, SK_P(mask), 8, 0);
}
static inline long sk_epoll_ctl(int epoll, int operation, int fd, void *event) {
    return sk_syscall6(SYS_epoll_ctl, epoll, operation, fd, SK_P(event), 0, 0);
}
static inline long sk_epoll_pwait(int epoll, void *events, int maximum, int timeout, const void *mask) {
    return sk_syscall6(SYS_epoll_pwait, epoll, SK_P(events), maximum, timeout, SK_P(mask), 8);
}
static inline long sk_epoll_pwait2(int epoll, void *events, int maximum, const struct timespec *timeout, const void *mask) {
    return sk_syscall6(441, epoll, SK_P(events), maximum, SK_P(timeout), SK_P(mask), 8);
}
static inline void *sk_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    return (void *)sk_syscall6(SYS_mmap, SK_P(address), (long)size, protection, flags, fd, offset);
}
static inline long sk_munmap(void *address, size_t size) {
    return sk_syscall6(SYS_munmap, SK_P(address), (long)size, 0, 0, 0, 0);
}
static inline long sk_madvise(void *address, size_t size, int advice) {
    return sk_syscall6(SYS_madvise, SK_P(address), (long)size, advice, 0, 0, 0);
}
static inline long sk_memfd_create(const char *name, unsigned flags) {
    return sk_syscall6(SYS_memfd_create, SK_P(name), flags, 0, 0, 0, 0);
}
static inline long sk_fstat(int fd, struct stat *status) { return sk_syscall6(SYS_fstat, fd, SK_P(status), 0, 0, 0, 0); }
static inline long sk_fgetxattr(int fd, const char *name, void *value, size_t size) {
    return sk_syscall6(SYS_fgetxattr, fd, SK_P(name), SK_P(value), (long)size, 0, 0);
}
static inline long sk_fstatfs(int fd, struct statfs *status) {
    return sk_syscall6(SYS_fstatfs, fd, SK_P(status), 0, 0, 0, 0);
}
static inline long sk_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags) {
    return sk_syscall6(SYS_preadv2, fd, SK_P(vectors), count, offset, 0, flags);
}
static inline long sk_pwritev2(int fd, const struct iovec *vectors, int count, off_t offset, int flags) {
    return sk_syscall6(SYS_pwritev2, fd, SK_P(vectors), count, offset, 0, flags);
}
static inline int sk_getpid(void) { return (int)sk_syscall6(SYS_getpid, 0, 0, 0, 0, 0, 0); }
static inline unsigned sk_geteuid(void) { return (unsigned)sk_syscall6(SYS_geteuid, 0, 0, 0, 0, 0, 0); }
static inline unsigned sk_getuid(void) { return (unsigned)sk_syscall6(SYS_getuid, 0, 0, 0, 0, 0, 0); }
static inline long sk_kill(int pid, int signal) { return sk_syscall6(SYS_kill, pid, signal, 0, 0, 0, 0); }
static inline long sk_raise(int signal) {
    return sk_syscall6(SYS_tgkill, sk_getpid(), sk_syscall6(SYS_gettid, 0, 0, 0, 0, 0, 0), signal, 0, 0, 0);
}
static inline void sk_yield(void) { (void)sk_syscall6(SYS_sched_yield, 0, 0, 0, 0, 0, 0); }
static inline long sk_prlimit_files(uint64_t *soft_and_hard) {
    return sk_syscall6(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, SK_P(soft_and_hard), 0, 0);
}
/// Lets the process have as many descriptors as it ever may, but no more than `most`: the kernel's table of them
/// is as long as the highest number.
static inline void sk_set_file_limit(uint64_t most) {
    uint64_t limits[2];
    if (sk_prlimit_files(limits) != 0) return;
    limits[0] = limits[1] < most ? limits[1] : most;
    sk_syscall6(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, SK_P(limits), 0, 0, 0);
}
// Raises a soft limit to the hard one.
static inline void sk_lift_limit(int resource) {
    uint64_t limits[2];
    if (sk_syscall6(SYS_prlimit64, 0, resource, 0, SK_P(limits), 0, 0) != 0) return;
    limits[0] = limits[1];
    sk_syscall6(SYS_prlimit64, 0, resource, SK_P(limits), 0, 0, 0);
}
static inline long sk_prlimit_file_size(uint64_t *soft_and_hard) {
    return sk_syscall6(SYS_prlimit64, 0, 1 /* RLIMIT_FSIZE */, 0, SK_P(soft_and_hard), 0, 0);
}
/// A descriptor from which the signals of the mask are read.
static inline long sk_signalfd(const void *mask, int flags) {
    return sk_syscall6(SYS_signalfd4, -1, SK_P(mask), 8, flags, 0, 0);
}
static inline long sk_getrandom(void *buffer, size_t size) {
    return sk_syscall6(SYS_getrandom, SK_P(buffer), (long)size, 1 /* GRND_NONBLOCK */, 0, 0, 0);
}
static inline void sk_exit(int status) { (void)sk_syscall6(SYS_exit_group, status, 0, 0, 0, 0, 0); }
static inline long sk_fork(void) {
#if defined(__x86_64__)
    return sk_syscall6(SYS_fork, 0, 0, 0, 0, 0, 0);
#else
    return sk_syscall6(SYS_clone, 17 /* SIGCHLD */, 0, 0, 0, 0, 0);
#endif
}
/// A child whose end raises no signal here and that no ordinary wait reports.
static inline long sk_fork_quietly(void) { return sk_syscall6(SYS_clone, 0, 0, 0, 0, 0, 0); }
/// A child that no wait of the program finds and no signal tells of.
static inline long sk_clone_silently(void) { return sk_syscall6(SYS_clone, 0, 0, 0, 0, 0, 0); }
/// A process of its own session, with no handler of the program left and no folder held.
static inline void sk_become_background(const char *name) {
    struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {0, 0, 0, 0};
    for (int signal = 1; signal < 65; signal++) sk_syscall6(SYS_rt_sigaction, signal, SK_P(&action), 0, 8, 0, 0);
    unsigned long none = 0;
    sk_syscall6(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, SK_P(&none), 0, 8, 0, 0);
    sk_syscall6(SYS_setsid, 0, 0, 0, 0, 0, 0);
    sk_syscall6(SYS_chdir, SK_P("/"), 0, 0, 0, 0, 0);
    sk_syscall6(SYS_prctl, 15 /* PR_SET_NAME */, SK_P(name), 0, 0, 0, 0);
}
static inline long sk_block_signals(void) {
    unsigned long all = ~0ul;
    return sk_syscall6(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, SK_P(&all), 0, 8, 0, 0);
}
static inline long sk_chdir(const char *path) { return sk_syscall6(SYS_chdir, SK_P(path), 0, 0, 0, 0, 0); }
static inline long sk_setsid(void) { return sk_syscall6(SYS_setsid, 0, 0, 0, 0, 0, 0); }
static inline long sk_wait4(int pid, int *status, int options) {
    return sk_syscall6(SYS_wait4, pid, SK_P(status), options, 0, 0, 0);
}
static inline long sk_pipe2(int *ends, int flags) {
    return sk_syscall6(SYS_pipe2, SK_P(ends), flags, 0, 0, 0, 0);
}
static inline long sk_splice(int from, long *from_offset, int to, long *to_offset, size_t size, unsigned flags) {
    return sk_syscall6(SYS_splice, from, SK_P(from_offset), to, SK_P(to_offset), (long)size, flags);
}
/// The signals, a bit each, for which the program has handlers: those after which its calls are to restart (SA_RESTART), and
/// those that end them. Those of faults, and of SIGQUIT, which language runtimes take beside them, do not count.
static inline void sk_handled_signals(uint64_t *restarting, uint64_t *ending) {
    struct { void *handler; unsigned long flags; void *restorer; unsigned long mask; } action;
    *restarting = *ending = 0;
    for (int signal = 1; signal <= 64; signal++) {
        switch (signal) {
        case 3: case 4: case 5: case 6: case 7: case 8: case 11: case 31: continue; /* QUIT ILL TRAP ABRT BUS FPE SEGV SYS */
        case 9: case 19: continue; /* KILL STOP: nobody handles them */
        case 32: case 33: continue; /* the C library's own */
        }
        if (sk_syscall6(SYS_rt_sigaction, signal, 0, SK_P(&action), 8, 0, 0) < 0) continue;
        if (action.handler == (void *)0 || action.handler == (void *)1) continue;
        *(action.flags & 0x10000000 /* SA_RESTART */ ? restarting : ending) |= 1ul << (signal - 1);
    }
}
/// The signals that this thread blocks.
static inline uint64_t sk_blocked_signals(void) {
    uint64_t blocked = 0;
    sk_syscall6(SYS_rt_sigprocmask, 0, 0, SK_P(&blocked), 8, 0, 0);
    return blocked;
}
/// A descriptor of this thread's that it left behind when a handler jumped out of its sleep; 0 for none.
extern __thread int sk_left_descriptor_word __attribute__((visibility("hidden"), tls_model("initial-exec")));
static inline int sk_left_descriptor(void) { return sk_left_descriptor_word; }
static inline void sk_leave_descriptor(int descriptor) { sk_left_descriptor_word = descriptor; }
static inline long sk_close_range(unsigned first, unsigned last, int flags) {
    return sk_syscall6(SYS_close_range, first, last, flags, 0, 0, 0);
}
static inline long sk_set_name(const char *name) { return sk_syscall6(SYS_prctl, 15, SK_P(name), 0, 0, 0, 0); }
static inline long sk_get_name(char *name) { return sk_syscall6(SYS_prctl, 16, SK_P(name), 0, 0, 0, 0); }
static inline long sk_execve(const char *path, void *arguments, void *environment) {
    return sk_syscall6(SYS_execve, SK_P(path), SK_P(arguments), SK_P(environment), 0, 0, 0);
}

extern void *malloc(size_t);
extern void *calloc(size_t, size_t);
extern void *realloc(void *, size_t);
extern void free(void *);

// MARK: Per-thread words

static inline int sk_errno(void) { return errno; }
static inline void sk_set_errno(int value) { errno = value; }

/// The kernel's thread id, asked for once a thread; `sk_forget_thread_id` after a fork.
extern __thread int sk_thread_id_word __attribute__((visibility("hidden"), tls_model("initial-exec")));
static inline int sk_thread_id(void) {
    int id = sk_thread_id_word;
    if (id == 0) {
        id = (int)sk_syscall6(SYS_gettid, 0, 0, 0, 0, 0, 0);
        sk_thread_id_word = id;
    }
    return id;
}
static inline void sk_forget_thread_id(void) { sk_thread_id_word = 0; }

/// The locks that this thread holds, or is about to take: their words. More than a few at once are a fork's, or those of
/// signal handlers that come in one upon the other.
enum { sk_held_at_most = 4 };
extern __thread uint32_t *sk_held_words[sk_held_at_most] __attribute__((visibility("hidden"), tls_model("initial-exec")));

/// How far behind the thread pointer the C library keeps the list of robust mutexes, which the kernel looks through when the
/// thread ends; 0 where that isn't known.
extern long sk_robust_list_offset __attribute__((visibility("hidden")));
static inline struct robust_list_head *sk_robust_list(void) {
    return (struct robust_list_head *)((char *)__builtin_thread_pointer() + sk_robust_list_offset);
}
static inline void sk_find_robust_list(void) {
    struct robust_list_head *list = 0;
    size_t size = 0;
    if (sk_robust_list_offset || sk_syscall6(SYS_get_robust_list, 0, SK_P(&list), SK_P(&size), 0, 0, 0) < 0) return;
    if (list && size == sizeof *list) sk_robust_list_offset = (char *)list - (char *)__builtin_thread_pointer();
}
/// For a child that the C library didn't fork: the kernel forgets the list at each fork.
static inline void sk_register_robust_list(void) {
    if (sk_robust_list_offset)
        sk_syscall6(SYS_set_robust_list, SK_P(sk_robust_list()), sizeof(struct robust_list_head), 0, 0, 0, 0);
}

/// The mutex that the kernel believes to be at work on where its word is this.
static inline struct robust_list *sk_robust_entry(uint32_t *word) {
    return (struct robust_list *)((char *)word - sk_robust_list()->futex_offset);
}

extern int sk_hold_with_others(uint32_t *word) __attribute__((visibility("hidden")));
extern void sk_let_go_with_others(uint32_t *word) __attribute__((visibility("hidden")));
static inline int sk_holds_no_second(void) { return !sk_held_words[1] && !sk_held_words[2] && !sk_held_words[3]; }

/// Before a lock is taken: notes it, and has the kernel mark it should the thread end before `sk_let_go`. Whether the
/// thread may hold it already: it does so where the word has its number.
static inline int sk_hold(void *lock) {
    uint32_t *word = lock;
    // An operation of the C library's own on its list is left alone: a signal handler came in between.
    if (sk_held_words[0] || !sk_holds_no_second() || !sk_robust_list_offset || sk_robust_list()->list_op_pending)
        return sk_hold_with_others(word);
    sk_held_words[0] = word;
    sk_robust_list()->list_op_pending = sk_robust_entry(word);
    __asm__ volatile("" ::: "memory");
    return 0;
}

/// After a lock was given up, or not got.
static inline void sk_let_go(void *lock) {
    uint32_t *word = lock;
    __asm__ volatile("" ::: "memory");
    if (sk_held_words[0] != word || !sk_holds_no_second() || !sk_robust_list_offset ||
        sk_robust_list()->list_op_pending != sk_robust_entry(word))
        return sk_let_go_with_others(word);
    sk_held_words[0] = 0;
    sk_robust_list()->list_op_pending = 0;
}

/// One that this thread holds, and is still noted; null for none.
static inline void *sk_any_held(void) {
    for (int index = 0; index < sk_held_at_most; index++)
        if (sk_held_words[index]) return sk_held_words[index];
    return 0;
}

/// Bytes on their way into a ring: noted, where their writer's frame is, for a signal handler that comes in and writes too.
struct sk_write {
    void *lock;
    const struct iovec *vectors;
    size_t skipped, count;
    uint64_t from;
    // What says in which ring, before these bytes and with them.
    uint64_t old_placement, placement;
    int is_urgent, is_done;
    struct sk_write *outer;
};
extern __thread struct sk_write *sk_write_word __attribute__((visibility("hidden"), tls_model("initial-exec")));
static inline void sk_begin_write(struct sk_write *write) {
    write->outer = sk_write_word;
    __asm__ volatile("" ::: "memory");
    sk_write_word = write;
    __asm__ volatile("" ::: "memory");
}
static inline void sk_end_write(struct sk_write *write) {
    __asm__ volatile("" ::: "memory");
    sk_write_word = write->outer;
}
/// The one of this thread that was interrupted under that lock; null for none.
static inline struct sk_write *sk_interrupted_write(const void *lock) {
    for (struct sk_write *write = sk_write_word; write; write = write->outer)
        if (write->lock == lock && !write->is_done) return write;
    return 0;
}

/// A send under way, which may owe its peer's readers a bell: noted for a signal handler that comes in and waits.
struct sk_sending {
    void *end;
    int descriptor;
    struct sk_sending *outer;
};
extern __thread struct sk_sending *sk_sending_word __attribute__((visibility("hidden"), tls_model("initial-exec")));
static inline void sk_begin_sending(struct sk_sending *sending) {
    sending->outer = sk_sending_word;
    __asm__ volatile("" ::: "memory");
    sk_sending_word = sending;
}
static inline void sk_end_sending(struct sk_sending *sending) {
    __asm__ volatile("" ::: "memory");
    sk_sending_word = sending->outer;
}
static inline struct sk_sending *sk_sending_here(void) { return sk_sending_word; }

/// What was under way is left by a jump.
static inline void sk_forget_writes(void) {
    sk_write_word = 0;
    sk_sending_word = 0;
}

/// Sets a word to `to` where it is `from` still, by one instruction as this thread's signal handlers see it; other threads
/// are kept off by a lock. What was written before is seen by who sees the word. Whether it was set.
static inline int sk_move_on(uint64_t *word, uint64_t from, uint64_t to) {
#if defined(__x86_64__)
    char moved;
    __asm__ volatile("cmpxchgq %3, %1" : "+a"(from), "+m"(*word), "=@ccz"(moved) : "r"(to) : "memory");
    return moved;
#else
    return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
#endif
}

/// The number of the process whose thread has lent its memory to a child by vfork, and waits for it; it may have gone on since.
extern __thread int sk_lender_word __attribute__((visibility("hidden"), tls_model("initial-exec")));
static inline void sk_return_memory(void) { sk_lender_word = 0; }
/// Whether this process is such a child.
static inline int sk_borrows_memory(void) {
    if (__builtin_expect(sk_lender_word == 0, 1)) return 0;
    if (sk_syscall6(SYS_getpid, 0, 0, 0, 0, 0, 0) != sk_lender_word) return 1;
    sk_lender_word = 0;
    return 0;
}
/// A child that itself lends on has nothing of its own: it stays its parent's.
static inline void sk_lend_memory(void) {
    if (!sk_borrows_memory()) sk_lender_word = (int)sk_syscall6(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/// The client that this thread is just accepting: its number, the hidden listener, and whether its hello is being taken out of
/// the queue. A signal handler that ends the process finds it here.
struct sk_acceptance {
    int client;
    int hidden;
    int ends;
};
extern __thread struct sk_acceptance sk_acceptance_word __attribute__((visibility("hidden"), tls_model("initial-exec")));
static inline struct sk_acceptance sk_acceptance(void) { return sk_acceptance_word; }
static inline void sk_set_acceptance(struct sk_acceptance acceptance) {
    sk_acceptance_word.client = -1;
    __asm__ volatile("" ::: "memory");
    sk_acceptance_word.hidden = acceptance.hidden;
    sk_acceptance_word.ends = acceptance.ends;
    __asm__ volatile("" ::: "memory");
    sk_acceptance_word.client = acceptance.client;
    __asm__ volatile("" ::: "memory");
}
static inline void sk_begin_acceptance(int client, int hidden) {
    sk_set_acceptance((struct sk_acceptance){client, hidden, 0});
}
static inline void sk_forget_acceptance(void) {
    sk_acceptance_word.client = -1;
    __asm__ volatile("" ::: "memory");
}
/// From here on a client without a hello is one that has been accepted.
static inline void sk_end_acceptance(void) {
    sk_acceptance_word.ends = 1;
    __asm__ volatile("" ::: "memory");
}

/// What STPerror reports of this thread's last STP call.
extern __thread int sk_stp_error_word __attribute__((visibility("hidden"), tls_model("initial-exec")));
static inline int sk_stp_error(void) { return sk_stp_error_word; }
static inline void sk_set_stp_error(int value) { sk_stp_error_word = value; }

/// The process's lock, alone on its line; zero is unlocked.
extern uint64_t sk_process_lock_words[8] __attribute__((visibility("hidden")));
static inline void *sk_process_lock(void) { return sk_process_lock_words; }

#ifdef SKEIN_CRASH_POINTS
/// Kills the process at the call of which SKEIN_CRASH_AT tells the number; only calls made while it is set count.
extern void sk_crash_point(void);
#endif

/// The flag that opens a file past the page cache; its number depends on the processor.
static inline int sk_open_direct(void) { return __O_DIRECT; }

// MARK: Clock and processor

/// Nanoseconds of CLOCK_MONOTONIC (through the vDSO).
static inline uint64_t sk_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
/// The same clock as of its last tick, some milliseconds ago: cheaper.
static inline uint64_t sk_now_coarsely(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
extern int sched_getcpu(void);
/* The same clock at the last tick of the kernel's: some milliseconds late, and cheap. */
static inline uint64_t sk_now_coarse(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
static inline int sk_cpu(void) { return sched_getcpu(); }
static inline void sk_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}
/// Number of processors that this thread may run on.
static inline int sk_allowed_cpus(void) {
    unsigned long mask[16];
    long size = sk_syscall6(SYS_sched_getaffinity, 0, sizeof mask, SK_P(mask), 0, 0, 0);
    int count = 0;
    for (long index = 0; index < size / (long)sizeof(long); index++) count += __builtin_popcountl(mask[index]);
    return count;
}

// MARK: Control messages (the CMSG macros)

/// A message of one data vector with room for up to `SK_MAX_DESCRIPTORS` descriptors.
#define SK_MAX_DESCRIPTORS 5
typedef struct {
    struct msghdr header;
    struct iovec vector;
    union {
        char bytes[CMSG_SPACE(sizeof(int) * SK_MAX_DESCRIPTORS)];
        struct cmsghdr align;
    } control;
} sk_message;

static inline long sk_send_descriptors(int fd, const void *data, size_t size, const int *fds, int count, int flags) {
    sk_message message;
    memset(&message, 0, sizeof message);
    message.vector.iov_base = (void *)data;
    message.vector.iov_len = size;
    message.header.msg_iov = &message.vector;
    message.header.msg_iovlen = 1;
    if (count > 0) {
        message.header.msg_control = message.control.bytes;
        message.header.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)count);
        struct cmsghdr *control = CMSG_FIRSTHDR(&message.header);
        control->cmsg_level = SOL_SOCKET;
        control->cmsg_type = SCM_RIGHTS;
        control->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)count);
        memcpy(CMSG_DATA(control), fds, sizeof(int) * (size_t)count);
    }
    return sk_sendmsg(fd, &message.header, flags);
}

/// Receives one packet; descriptors beyond `maximum` are closed. `*count` is how many came, -1 where not all had room.
static inline long sk_receive_descriptors(int fd, void *data, size_t size, int *fds, int maximum, int *count, int flags) {
    sk_message message;
    memset(&message, 0, sizeof message);
    message.vector.iov_base = data;
    message.vector.iov_len = size;
    message.header.msg_iov = &message.vector;
    message.header.msg_iovlen = 1;
    message.header.msg_control = message.control.bytes;
    message.header.msg_controllen = sizeof message.control.bytes;
    *count = 0;
    long result = sk_recvmsg(fd, &message.header, flags | MSG_CMSG_CLOEXEC);
    if (result < 0) return result;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(&message.header); control; control = CMSG_NXTHDR(&message.header, control)) {
        if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
        int found = (int)((control->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int index = 0; index < found; index++) {
            int received;
            memcpy(&received, CMSG_DATA(control) + sizeof(int) * (size_t)index, sizeof received);
            if (*count < maximum) fds[(*count)++] = received;
            else sk_close(received);
        }
    }
    // At the limit of descriptors some are missing: then none is of use.
    if (message.header.msg_flags & MSG_CTRUNC) {
        while (*count > 0) sk_close(fds[--*count]), fds[*count] = -1;
        *count = -1;
    }
    return result;
}

// MARK: Messages of the program (recvmsg with SCM_RIGHTS)

static inline struct cmsghdr *sk_cmsg_first(const struct msghdr *message) { return CMSG_FIRSTHDR(message); }
static inline struct cmsghdr *sk_cmsg_next(struct msghdr *message, struct cmsghdr *control) {
    return CMSG_NXTHDR(message, control);
}
static inline int sk_cmsg_descriptor_count(const struct cmsghdr *control) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) return 0;
    return (int)((control->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}
static inline int *sk_cmsg_descriptors(struct cmsghdr *control) { return (int *)(void *)CMSG_DATA(control); }

// MARK: Byte order, and structures whose layout differs by architecture

static inline uint16_t sk_swap16(uint16_t value) { return __builtin_bswap16(value); }
static inline uint32_t sk_swap32(uint32_t value) { return __builtin_bswap32(value); }

static inline uint32_t sk_event_get(const void *events, int index, uint64_t *data) {
    const struct epoll_event *event = (const struct epoll_event *)events + index;
    *data = event->data.u64;
    return event->events;
}
static inline void sk_event_set(void *events, int index, uint32_t mask, uint64_t data) {
    struct epoll_event *event = (struct epoll_event *)events + index;
    event->events = mask;
    event->data.u64 = data;
}

// MARK: stdio over our own calls

typedef long (*sk_cookie_read)(void *cookie, char *buffer, size_t size);
typedef long (*sk_cookie_write)(void *cookie, const char *buffer, size_t size);
typedef int (*sk_cookie_seek)(void *cookie, off_t *offset, int whence);
typedef int (*sk_cookie_close)(void *cookie);

static inline void *sk_open_cookie(
    void *cookie, const char *mode, sk_cookie_read read, sk_cookie_write write, sk_cookie_seek seek,
    sk_cookie_close close) {
    struct functions {
        sk_cookie_read read;
        sk_cookie_write write;
        sk_cookie_seek seek;
        sk_cookie_close close;
    } functions = {read, write, seek, close};
    extern void *fopencookie(void *, const char *, struct functions);
    return fopencookie(cookie, mode, functions);
}

/// The FILE that stdin, stdout or stderr is (0 to 2), and another in its place, with what was written and not sent.
extern void *sk_standard_stream(int number);
extern void sk_replace_standard_stream(int number, void *stream);
extern int sk_open_number(const char *path, const char *mode, void **opened);
extern void sk_close_file(void *opened);
extern void sk_begin_anew(void *stream);

// MARK: posix_spawn's actions, which the C library has no calls to read

/* The C library's own layout, the same since posix_spawn exists; tags beyond those known are refused. */
struct sk_spawn_action {
    int tag; /* close, dup2, open, chdir, fchdir, closefrom, tcsetpgrp */
    union {
        struct { int fd, target; } dup;
        struct { int fd; char *path; int flags; mode_t mode; } open;
        struct { char *path; } chdir;
    };
};

static inline const struct sk_spawn_action *sk_spawn_list(const posix_spawn_file_actions_t *actions) {
    return (const struct sk_spawn_action *)(const void *)actions->__actions;
}

/* By name: the younger ones would tie the libraries to a young C library. Who has the tag has the call. */
typedef int (*sk_spawn_adder)(posix_spawn_file_actions_t *, ...);
static inline sk_spawn_adder sk_spawn_new_action(const char *name) {
    return (sk_spawn_adder)dlsym(RTLD_DEFAULT, name);
}

/* Makes an empty list; not 0 where the program's own can't be copied behind it. */
static inline int sk_spawn_begin(posix_spawn_file_actions_t *own, const posix_spawn_file_actions_t *actions) {
    if (actions) {
        if (actions->__used < 0 || actions->__used > actions->__allocated) return EINVAL;
        for (int index = 0; index < actions->__used; index++)
            if (sk_spawn_list(actions)[index].tag < 0 || sk_spawn_list(actions)[index].tag > 6) return EINVAL;
    }
    return posix_spawn_file_actions_init(own);
}

static inline int sk_spawn_append(posix_spawn_file_actions_t *own, const posix_spawn_file_actions_t *actions) {
    int error = 0;
    for (int index = 0; actions && index < actions->__used && error == 0; index++) {
        const struct sk_spawn_action *action = sk_spawn_list(actions) + index;
        switch (action->tag) {
        case 0: error = posix_spawn_file_actions_addclose(own, action->dup.fd); break;
        case 1: error = posix_spawn_file_actions_adddup2(own, action->dup.fd, action->dup.target); break;
        case 2:
            error = posix_spawn_file_actions_addopen(
                own, action->open.fd, action->open.path, action->open.flags, action->open.mode);
            break;
        case 3: error = sk_spawn_new_action("posix_spawn_file_actions_addchdir_np")(own, action->chdir.path); break;
        case 4: error = sk_spawn_new_action("posix_spawn_file_actions_addfchdir_np")(own, action->dup.fd); break;
        case 5: error = sk_spawn_new_action("posix_spawn_file_actions_addclosefrom_np")(own, action->dup.fd); break;
        case 6: error = sk_spawn_new_action("posix_spawn_file_actions_addtcsetpgrp_np")(own, action->dup.fd); break;
        }
    }
    return error;
}

/* The number that the action of this index is the last to copy something to; -1 where it is none such. */
static inline int sk_spawn_target(const posix_spawn_file_actions_t *actions, int index) {
    const struct sk_spawn_action *action = sk_spawn_list(actions) + index;
    if (action->tag != 1) return -1;
    for (int later = index + 1; later < actions->__used; later++)
        if (sk_spawn_list(actions)[later].tag == 1 && sk_spawn_list(actions)[later].dup.target == action->dup.target)
            return -1;
    return action->dup.target;
}

/* What the child has under the number in the end: the parent's descriptor of this number, or another of which the
   actions make a copy there; -1 where they close it or open a file. */
static inline int sk_spawn_origin(const posix_spawn_file_actions_t *actions, int number) {
    for (int index = actions ? actions->__used - 1 : -1; index >= 0; index--) {
        const struct sk_spawn_action *action = sk_spawn_list(actions) + index;
        if (action->tag == 0 && action->dup.fd == number) return -1;
        if (action->tag == 1 && action->dup.target == number) number = action->dup.fd;
        if (action->tag == 2 && action->open.fd == number) return -1;
        if (action->tag == 5 && action->dup.fd <= number) return -1;
    }
    return number;
}

// MARK: Signals

static inline void sk_block_all_signals(sigset_t *old) {
    sigset_t set;
    sigfillset(&set);
    pthread_sigmask(SIG_BLOCK, &set, old);
}
static inline void sk_restore_mask(const sigset_t *old) { pthread_sigmask(SIG_SETMASK, old, NULL); }

// While system() waits.

static inline void sk_ignore_signal(int number, struct sigaction *old) {
    struct sigaction ignoring;
    memset(&ignoring, 0, sizeof ignoring);
    ignoring.sa_handler = SIG_IGN;
    sigaction(number, &ignoring, old);
}
static inline void sk_restore_signal(int number, const struct sigaction *old) { sigaction(number, old, NULL); }
static inline void sk_block_child_signal(sigset_t *old) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, old);
}

/* The shell gets the signals as its caller had them. Not 0 where there is no memory. */
static inline int sk_shell_attributes(
    posix_spawnattr_t *attributes, const sigset_t *mask, const struct sigaction *interrupt, const struct sigaction *quit) {
    sigset_t defaults;
    sigemptyset(&defaults);
    if (interrupt->sa_handler != SIG_IGN) sigaddset(&defaults, SIGINT);
    if (quit->sa_handler != SIG_IGN) sigaddset(&defaults, SIGQUIT);
    int error = posix_spawnattr_init(attributes);
    if (error) return error;
    posix_spawnattr_setsigmask(attributes, mask);
    posix_spawnattr_setsigdefault(attributes, &defaults);
    return posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

// MARK: Threads

extern char __libc_single_threaded;
static inline int sk_is_single_threaded(void) { return __libc_single_threaded; }

/* Calls `body` in a thread that has copies of the process's descriptors for its own, on the stack that ends there; the
   calling thread waits until it has come back, or has executed a program. Minus the errno where no thread can be had. */
extern long sk_with_own_descriptors(void (*body)(void *context), void *context, void *stack_end);

// MARK: Cancellation

/* Calls `call`, in which the thread may be cancelled; `undo` runs then. */
extern long sk_cancellable(long (*call)(void *context), void (*undo)(void *context), void *context);

// MARK: Finding what the hooks stand in for

/* Calls these around every fork that the C library makes. */
static inline void sk_at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void)) {
    pthread_atfork(before, in_parent, in_child);
}

/* And these around every other making of a process (clone.c); `in_parent` gets its result. */
/* `filter` is told of each filter that seccomp(2) enters before the kernel is; NULL for the strict mode. */
void sk_watch_filters(void (*filter)(const void *program));
/* Asked at each vfork whether a child may have this process's memory; else it is fork (vfork.c). */
void sk_watch_vforks(int (*may_lend)(void));
void sk_watch_clones(void (*before)(void), void (*in_parent)(int child), void (*in_child)(void));

static inline void *sk_next_symbol(const char *name) { return dlsym(RTLD_NEXT, name); }
extern char **environ;
extern int gethostname(char *name, size_t size);
static inline const char *sk_environment(const char *name) {
    size_t length = strlen(name);
    for (char **entry = environ; entry && *entry; entry++)
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
    return 0;
}
static inline char *const *sk_environ(void) { return environ; }
static inline void sk_environment_remove(const char *name) {
    size_t length = strlen(name);
    char **kept = environ;
    for (char **entry = environ; entry && *entry; entry++)
        if (strncmp(*entry, name, length) != 0 || (*entry)[length] != '=') *kept++ = *entry;
    if (kept) *kept = 0;
}
extern unsigned long getauxval(unsigned long);
/// The path that exec was called with; NULL when the kernel hasn't said.
static inline const char *sk_executed_path(void) { return (const char *)getauxval(31 /* AT_EXECFN */); }
static inline int sk_is_secure(void) {
    return getauxval(23 /* AT_SECURE */) != 0;
}

#endif
