/* victim server SEED SECONDS        serves whoever comes; prints its port and its listener's cookie
   victim client PORT SEED SECONDS   connects again and again
   Runs under the preload library and makes each call that a program can make on a connection, every one with a
   deadline. Ends with 0 when every call came back, no byte came from beside the rings, an honest connection of its
   own was not disturbed, and nothing was lost. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

#define DEADLINE_MS 20
#define WATCHDOG_SECONDS 30

static _Thread_local uint64_t dice;
static uint64_t roll(uint64_t below) { return next_random(&dice) % below; }

static void fail(const char *what) {
    printf("victim: %s (errno %d)\n", what, errno);
    fflush(stdout);
    abort();
}

/* What each thread is doing since when, for the watchdog. */
struct work {
    const char *_Atomic name;
    _Atomic double since;
};
static struct work works[2];
static _Thread_local struct work *work = &works[0];

static void begin(const char *name) {
    work->since = now();
    work->name = name;
}

static void *watch(void *nothing) {
    for (;; usleep(200000))
        for (int index = 0; index < 2; index++) {
            const char *name = works[index].name;
            if (!name || now() - works[index].since < WATCHDOG_SECONDS) continue;
            printf("victim: %s does not come back\n", name);
            fflush(stdout);
            abort();
        }
    return nothing;
}

/* Bytes of the rings have their highest bit clear; what lies around them hasn't. */
static void check_bytes(const unsigned char *bytes, ssize_t count) {
    for (ssize_t index = 0; index < count; index++)
        if (bytes[index] == CANARY) fail("a byte came from beside the rings");
}

/* Memory of exactly that size, for the address sanitizer's sake. */
static unsigned char *buffer(size_t size) {
    unsigned char *bytes = malloc(size ? size : 1);
    memset(bytes, 0x55, size);
    return bytes;
}

static size_t some_size(void) { return roll(8) == 0 ? roll(3u << 20) : roll(4) == 0 ? roll(40000) : roll(600); }

static void do_receive(int fd) {
    static const int flags[] = {0, MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT, MSG_OOB, MSG_TRUNC, MSG_PEEK | MSG_WAITALL, MSG_PEEK | MSG_TRUNC};
    int chosen = flags[roll(8)];
    size_t size = some_size();
    unsigned char *bytes = buffer(size);
    ssize_t got = recv(fd, bytes, size, chosen);
    if (got > (ssize_t)size && !(chosen & MSG_TRUNC)) fail("recv gave more than there was room for");
    if (got > 0 && !(chosen & MSG_TRUNC)) check_bytes(bytes, got);
    free(bytes);
}

static void do_vectors(int fd) {
    struct iovec vectors[4];
    size_t total = 0;
    for (int index = 0; index < 4; index++) {
        vectors[index].iov_len = roll(4) ? roll(3000) : 0;
        vectors[index].iov_base = buffer(vectors[index].iov_len);
        total += vectors[index].iov_len;
    }
    if (roll(2)) {
        ssize_t got = readv(fd, vectors, 4);
        if (got > (ssize_t)total) fail("readv gave more than there was room for");
        for (int index = 0; index < 4 && got > 0; index++) {
            ssize_t part = got < (ssize_t)vectors[index].iov_len ? got : (ssize_t)vectors[index].iov_len;
            check_bytes(vectors[index].iov_base, part);
            got -= part;
        }
    } else if (writev(fd, vectors, 4) > (ssize_t)total) {
        fail("writev took more than there was");
    }
    for (int index = 0; index < 4; index++) free(vectors[index].iov_base);
}

static void do_send(int fd) {
    size_t size = some_size();
    unsigned char *bytes = buffer(size);
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL | (roll(2) ? MSG_DONTWAIT : 0) | (roll(8) ? 0 : MSG_OOB));
    if (sent > (ssize_t)size) fail("send took more than there was");
    free(bytes);
}

static void do_poll(int fd) {
    struct pollfd items[2] = {{fd, (short)(roll(2) ? POLLIN : POLLOUT | POLLIN | POLLPRI | POLLRDHUP), 0}, {-1, 0, 0}};
    if (poll(items, 2, (int)roll(DEADLINE_MS)) < 0 && errno != EINTR) fail("poll");
}

static void do_select(int fd) {
    fd_set read, write, except;
    FD_ZERO(&read);
    FD_ZERO(&write);
    FD_ZERO(&except);
    FD_SET(fd, &read);
    if (roll(2)) FD_SET(fd, &write);
    if (roll(2)) FD_SET(fd, &except);
    struct timeval limit = {0, (long)roll(DEADLINE_MS * 1000)};
    if (select(fd + 1, &read, &write, &except, &limit) < 0) fail("select");
}

static void do_epoll(int fd) {
    static const uint32_t kinds[] = {EPOLLIN, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLET | EPOLLRDHUP, EPOLLOUT | EPOLLET, EPOLLIN | EPOLLONESHOT};
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = kinds[roll(5)], .data.u64 = 7}, seen[4];
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    for (uint64_t count = roll(4) + 1; count; count--) {
        int found = epoll_wait(set, seen, 4, (int)roll(DEADLINE_MS));
        if (found > 1) fail("epoll_wait reports one descriptor twice");
        if (found == 1 && seen[0].data.u64 != 7) fail("epoll_wait reports what nobody registered");
        if (found == 1 && roll(2)) do_receive(fd);
    }
    close(set);
}

static void do_questions(int fd) {
    int number = 0, error = 0;
    socklen_t length = sizeof error;
    struct tcp_info info;
    if (ioctl(fd, FIONREAD, &number) == 0 && (number < 0 || number > LARGE + SMALL)) fail("FIONREAD");
    if (ioctl(fd, TIOCOUTQ, &number) == 0 && (number < 0 || number > 2 * LARGE)) fail("TIOCOUTQ");
    ioctl(fd, SIOCATMARK, &number);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    length = sizeof info;
    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
    struct sockaddr_in6 address;
    length = sizeof address;
    getpeername(fd, (void *)&address, &length);
}

static int file = -1;

static void do_one(int fd) {
    int copy;
    switch (roll(24)) {
    case 0 ... 6: begin("recv"), do_receive(fd); break;
    case 7 ... 10: begin("send"), do_send(fd); break;
    case 11 ... 12: begin("readv or writev"), do_vectors(fd); break;
    case 13 ... 14: begin("poll"), do_poll(fd); break;
    case 15: begin("select"), do_select(fd); break;
    case 16 ... 17: begin("epoll_wait"), do_epoll(fd); break;
    case 18 ... 19: begin("a question"), do_questions(fd); break;
    case 20: begin("sendfile"), lseek(file, 0, SEEK_SET), (void)!sendfile(fd, file, NULL, roll(100000)); break;
    case 21:
        begin("dup");
        if ((copy = dup(fd)) >= 0) do_receive(copy), close(copy);
        break;
    case 22: begin("setsockopt"), copy = (int)roll(200000), setsockopt(fd, SOL_SOCKET, roll(2) ? SO_SNDBUF : SO_RCVBUF, &copy, sizeof copy); break;
    default:
        begin("shutdown");
        if (roll(6) == 0) shutdown(fd, (int)roll(3));
    }
    work->name = NULL;
}

/* A second thread on the same connection. */
struct helper {
    int fd;
    uint64_t dice;
    _Atomic int stop;
};

static void *help(void *argument) {
    struct helper *helper = argument;
    dice = helper->dice;
    work = &works[1];
    while (!helper->stop) do_one(helper->fd);
    return NULL;
}

static void in_child(int fd) {
    begin("fork");
    pid_t child = fork();
    if (child == 0) {
        for (int count = 0; count < 5; count++) do_one(fd);
        _exit(0);
    }
    int status = 0;
    if (child > 0 && (waitpid(child, &status, 0) != child || status != 0)) fail("a child that shares the connection ended badly");
    work->name = NULL;
}

static void live_with(int fd) {
    struct timeval limit = {0, DEADLINE_MS * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (roll(3) == 0) fcntl(fd, F_SETFL, O_NONBLOCK);
    struct helper helper = {.fd = fd, .dice = next_random(&dice)};
    pthread_t thread;
    int helped = roll(3) == 0 && pthread_create(&thread, NULL, help, &helper) == 0;
    double end = now() + (double)roll(20) / 1000;
    while (now() < end) do_one(fd);
    if (helped) {
        helper.stop = 1;
        pthread_join(thread, NULL);
    } else if (roll(8) == 0) {
        in_child(fd);
    }
    struct linger reset = {1, 0};
    if (roll(6) == 0) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    begin("close");
    close(fd);
    work->name = NULL;
}

/* A connection of this process with itself, which nobody attacks. */
static int honest[2];

static int listen_anywhere(struct sockaddr_in *address) {
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (void *)address, length) || listen(listener, 128) || getsockname(listener, (void *)address, &length)) fail("listen");
    return listener;
}

static void make_honest(int pair[2]) {
    struct sockaddr_in address;
    int listener = listen_anywhere(&address);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(pair[0], (void *)&address, sizeof address) || (pair[1] = accept(listener, NULL, NULL)) < 0) fail("an honest connection");
    close(listener);
}

static void be_honest(void) {
    static unsigned char counter;
    unsigned char out[900], in[900];
    for (unsigned index = 0; index < sizeof out; index++) out[index] = counter++;
    for (int way = 0; way < 2; way++) {
        begin("the honest connection");
        if (send(honest[way], out, sizeof out, MSG_NOSIGNAL) != sizeof out) fail("the honest connection does not send");
        if (recv(honest[1 - way], in, sizeof in, MSG_WAITALL) != sizeof in) fail("the honest connection does not receive");
        if (memcmp(in, out, sizeof in)) fail("the honest connection has other bytes");
        work->name = NULL;
    }
}

static int open_descriptors(void) {
    int count = 0;
    for (int number = 0; number < 4096; number++)
        if (syscall(SYS_fcntl, number, F_GETFD) >= 0) count++;
    return count;
}

static int mapped_pools(void) {
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "/memfd:skein (deleted)")) count++;
    fclose(maps);
    return count;
}

static void serve(int listener, double end) {
    while (now() < end) {
        struct pollfd item = {listener, POLLIN, 0};
        begin("waiting for a client");
        poll(&item, 1, DEADLINE_MS);
        begin("accept");
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        work->name = NULL;
        if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED) fail("accept");
        if (fd >= 0) live_with(fd);
        be_honest();
    }
}

static void call(uint16_t port, double end) {
    struct sockaddr_in address = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
    struct timeval limit = {0, DEADLINE_MS * 1000};
    while (now() < end) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        begin("connect");
        int failed = connect(fd, (void *)&address, sizeof address);
        work->name = NULL;
        if (failed) close(fd);
        else live_with(fd);
        be_honest();
    }
}

/* Descriptors and pools must not grow with what has come and gone. */
static void look_for_losses(int before) {
    usleep(60000);
    for (int count = 0; count < 4; count++) {
        int pair[2];
        make_honest(pair);
        close(pair[0]), close(pair[1]);
    }
    int after = open_descriptors(), pools = mapped_pools();
    /* Up to 32 idle pools are kept, a client's with a descriptor each. */
    if (after > before + 40 || pools > 48) {
        printf("victim: %d descriptors at first, %d at the end; %d pools\n", before, after, pools);
        fflush(stdout);
        abort();
    }
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    dice = strtoull(arguments[count - 2], NULL, 10) * 0xd1342543de82ef95ull | 1;
    double end = now() + atof(arguments[count - 1]);
    signal(SIGPIPE, SIG_IGN);
    pthread_t watcher;
    pthread_create(&watcher, NULL, watch, NULL);
    file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    make_honest(honest);
    if (strcmp(arguments[1], "server") == 0) {
        struct sockaddr_in address;
        int listener = listen_anywhere(&address);
        uint64_t cookie = 0;
        socklen_t length = sizeof cookie;
        getsockopt(listener, SOL_SOCKET, SO_COOKIE, &cookie, &length);
        fcntl(listener, F_SETFL, O_NONBLOCK);
        printf("ready %d %llx\n", ntohs(address.sin_port), (unsigned long long)cookie);
        fflush(stdout);
        int before = open_descriptors();
        serve(listener, end);
        look_for_losses(before);
    } else {
        int before = open_descriptors();
        call((uint16_t)atoi(arguments[2]), end);
        look_for_losses(before);
    }
    return 0;
}
