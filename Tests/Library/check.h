/* What the test programs share: sentences, pairs of processes, addresses. */
#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <skein.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Prints "ok - …" or "not ok - …" and what was seen. Safe from several processes: one write a line. */
static int check(int holds, const char *sentence, ...) __attribute__((format(printf, 2, 3)));
static int check(int holds, const char *sentence, ...) {
    int saved = errno;
    char line[512];
    int length = snprintf(line, sizeof line, holds ? "ok - " : "not ok - ");
    va_list arguments;
    va_start(arguments, sentence);
    length += vsnprintf(line + length, sizeof line - (size_t)length, sentence, arguments);
    va_end(arguments);
    if (!holds) length += snprintf(line + length, sizeof line - (size_t)length, " (errno %d %s, STP %d)", saved, strerror(saved), STPerror(-1));
    line[length++] = '\n';
    if (write(1, line, (size_t)length) != length) abort();
    errno = saved;
    return holds;
}

static inline struct sockaddr_stp address_of(int port) {
    struct sockaddr_stp address;
    memset(&address, 0, sizeof address);
    address.stp_family = AF_STP;
    address.stp_port = (uint16_t)port;
    return address;
}

static inline int stp_bind(int fd, int port) {
    struct sockaddr_stp address = address_of(port);
    return STPbind(fd, (struct sockaddr *)&address, sizeof address);
}
static inline int stp_connect(int fd, int port) {
    struct sockaddr_stp address = address_of(port);
    return STPconnect(fd, (struct sockaddr *)&address, sizeof address);
}
static inline int port_of(int fd) {
    struct sockaddr_stp address;
    socklen_t length = sizeof address;
    return STPgetsockname(fd, (struct sockaddr *)&address, &length) == 0 ? address.stp_port : -1;
}
static inline int new_socket(void) { return STPsocket(PF_STP, SOCK_STREAM, PF_STP); }

/* A listener on a free port. */
static inline int new_listener(int *port) {
    int fd = new_socket();
    if (fd < 0 || stp_bind(fd, 0) != 0 || STPlisten(fd, 8) != 0) {
        check(0, "a listener can be made");
        exit(1);
    }
    *port = port_of(fd);
    return fd;
}

static inline double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}
static inline void nap(int milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&time, &time) != 0) {}
}
static inline short poll_now(int fd, short events, int timeout) {
    struct pollfd item = {fd, events, 0};
    return poll(&item, 1, timeout) < 0 ? -1 : item.revents;
}

/* Two processes that used no STP before they were two: `server` gets a listener, `client` its port. */
static inline void pair(void (*server)(int listener), void (*client)(int port)) {
    int pipes[2];
    if (pipe(pipes) != 0) abort();
    fflush(stdout);
    pid_t first = fork();
    if (first == 0) {
        alarm(30);
        int port;
        int listener = new_listener(&port);
        if (write(pipes[1], &port, sizeof port) != sizeof port) abort();
        server(listener);
        _exit(0);
    }
    pid_t second = fork();
    if (second == 0) {
        alarm(30);
        int port = 0;
        close(pipes[1]);
        if (read(pipes[0], &port, sizeof port) != sizeof port) _exit(1);
        client(port);
        _exit(0);
    }
    close(pipes[0]);
    close(pipes[1]);
    for (int round = 0; round < 2; round++) {
        int status;
        pid_t who = waitpid(round == 0 ? first : second, &status, 0);
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
            check(0, "the %s ends by itself (signal %d)", who == first ? "server" : "client", WTERMSIG(status));
        else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            check(0, "the %s ends well (%d)", who == first ? "server" : "client", WEXITSTATUS(status));
    }
}
#endif
