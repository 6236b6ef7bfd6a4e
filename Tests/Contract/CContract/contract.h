// What Swift cannot import of the C interface: fork (marked unavailable), variadic calls, function-like
// macros, packed structures, and GNU declarations that the Glibc module hides. Everything here is an
// ordinary libc call, so that a library under test can interpose it.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const int cxMsgWaitForOne = 0x10000;

// The Glibc module is built without _GNU_SOURCE; these declarations agree with glibc's own.
struct cx_mmsghdr { struct msghdr header; unsigned int length; };
extern int accept4(int, struct sockaddr *, socklen_t *, int);
extern pid_t gettid(void);
extern int dup3(int, int, int);
extern const char *strerrorname_np(int);
extern int ppoll(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
extern int close_range(unsigned int, unsigned int, int);
extern ssize_t splice(int, off_t *, int, off_t *, size_t, unsigned int);
extern ssize_t preadv64v2(int, const struct iovec *, int, off_t, int);
extern ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int);
extern ssize_t preadv2(int, const struct iovec *, int, off_t, int);
extern ssize_t pwritev2(int, const struct iovec *, int, off_t, int);

// What read, recv and poll become in programs that were compiled with _FORTIFY_SOURCE.
ssize_t cx_fortified_read(int, void *, size_t, size_t) __asm__("__read_chk");
ssize_t cx_fortified_recv(int, void *, size_t, size_t, int) __asm__("__recv_chk");
ssize_t cx_fortified_recvfrom(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *) __asm__("__recvfrom_chk");
int cx_fortified_poll(struct pollfd *, nfds_t, int, size_t) __asm__("__poll_chk");
int cx_fortified_ppoll(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t) __asm__("__ppoll_chk");
// The C library's second names.
ssize_t cx_alias_read(int, void *, size_t) __asm__("__read");
ssize_t cx_alias_write(int, const void *, size_t) __asm__("__write");
ssize_t cx_alias_send(int, const void *, size_t, int) __asm__("__send");
int cx_alias_poll(struct pollfd *, nfds_t, int) __asm__("__poll");
int cx_alias_close(int) __asm__("__close");
int cx_recvmmsg(int, struct cx_mmsghdr *, unsigned int, int, struct timespec *) __asm__("recvmmsg");
int cx_sendmmsg(int, struct cx_mmsghdr *, unsigned int, int) __asm__("sendmmsg");

static inline pid_t cx_fork(void) { return fork(); }
static inline int cx_fcntl(int fd, int command, int argument) { return fcntl(fd, command, argument); }
static inline int cx_ioctl(int fd, unsigned long request, int *value) { return ioctl(fd, request, value); }
static inline int cx_exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
static inline int cx_death_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }
static inline int cx_is_socket(mode_t mode) { return S_ISSOCK(mode); }
static inline void cx_die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }
static inline FILE *cx_standard_input(void) { return stdin; }
static inline FILE *cx_standard_output(void) { return stdout; }

static inline void cx_zero(fd_set *set) { FD_ZERO(set); }
static inline void cx_set(int fd, fd_set *set) { FD_SET(fd, set); }
static inline int cx_isset(int fd, const fd_set *set) { return FD_ISSET(fd, set) != 0; }

// fprintf is variadic and fputs would not exercise its buffering path.
static inline int cx_fprintf(FILE *file, const char *text, int number) { return fprintf(file, "%s %d\n", text, number); }

// dprintf is variadic, and becomes another function with _FORTIFY_SOURCE.
extern int __dprintf_chk(int, int, const char *, ...);
static inline int cx_dprintf(int fd, const char *text, int number) { return dprintf(fd, "%s %d\n", text, number); }
static inline int cx_fortified_dprintf(int fd, const char *text, int number) {
    return __dprintf_chk(fd, 1, "%s %d\n", text, number);
}

static inline int cx_epoll_ctl(int set, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.u64 = data;
    return epoll_ctl(set, operation, fd, operation == EPOLL_CTL_DEL ? NULL : &event);
}

// Hands epoll's packed records back as two plain arrays.
static inline int cx_epoll_wait(int set, uint32_t *events, uint64_t *data, int maximum, int milliseconds) {
    struct epoll_event ready[64];
    int count = epoll_wait(set, ready, maximum > 64 ? 64 : maximum, milliseconds);
    for (int i = 0; i < count; i++) { events[i] = ready[i].events; data[i] = ready[i].data.u64; }
    return count;
}

// The other spellings of epoll_wait; one record is enough here.
static inline int cx_epoll_pwait(int set, uint32_t *events, int milliseconds, const sigset_t *mask) {
    struct epoll_event ready;
    int count = epoll_pwait(set, &ready, 1, milliseconds, mask);
    if (count == 1) *events = ready.events;
    return count;
}

// sigaction's handler is a macro over a union.
static inline void cx_handle_signal(int number, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(number, &action, NULL);
}
static inline void cx_default_signal(int number) { signal(number, SIG_DFL); }
static inline void cx_ignore_signal(int number) { signal(number, SIG_IGN); }

// Control data of one received message, walked with the CMSG macros.
static inline int cx_send_descriptor(int fd, int passed) {
    char byte = 'x', room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {0};
    message.msg_iov = &part; message.msg_iovlen = 1;
    message.msg_control = room; message.msg_controllen = sizeof room;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET; header->cmsg_type = SCM_RIGHTS; header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &passed, sizeof passed);
    return (int)sendmsg(fd, &message, 0);
}
static inline int cx_receive_descriptor(int fd) {
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {0};
    message.msg_iov = &part; message.msg_iovlen = 1;
    message.msg_control = room; message.msg_controllen = sizeof room;
    if (recvmsg(fd, &message, 0) < 0) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int passed = -1;
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&passed, CMSG_DATA(header), sizeof passed);
    return passed;
}
