/* What a hostile peer once brought about, each as a case of its own; the peer is a thread of this process that
   speaks the protocol by hand (peer.c). Runs under the preload library. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("# line %d: not %s (errno %d)\n", __LINE__, #condition, errno); \
            return 0; \
        } \
    } while (0)

static struct sockaddr_in address;
static uint64_t cookie;

static int listener_at(uint32_t host, int backlog) {
    socklen_t length = sizeof address;
    address = (struct sockaddr_in){AF_INET, 0, {htonl(host)}, {0}};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, length) || listen(listener, backlog) || getsockname(listener, (void *)&address, &length)) exit(2);
    length = sizeof cookie;
    if (getsockopt(listener, SOL_SOCKET, SO_COOKIE, &cookie, &length)) exit(2);
    return listener;
}

static int listener_of(int backlog) { return listener_at(INADDR_LOOPBACK, backlog); }

/* The victim's descriptor of a connection whose other end is the peer's. */
static int connection(struct peer *peer) {
    int listener = listener_of(16);
    *peer = make_pool();
    if (say_hello(peer, cookie, ntohs(address.sin_port))) exit(2);
    int fd = accept(listener, NULL, NULL);
    close(listener);
    return fd;
}

static void leave(struct peer *peer, int fd) {
    part(peer);
    drop_pool(peer);
    close(fd);
}

static char *mine(struct peer *peer) { return line_of(peer, peer->end); }
static char *theirs(struct peer *peer) { return line_of(peer, 1 - peer->end); }

/* What the peer does in a thread of its own until it is told to stop. */
static _Atomic int stop;
static pthread_t thread;

static void start(void *(*body)(void *), void *argument) {
    stop = 0;
    pthread_create(&thread, NULL, body, argument);
}

static void finish(void) {
    stop = 1;
    pthread_join(thread, NULL);
}

static void *write_on(void *argument) {
    struct peer *peer = argument;
    char *ring = slot_of(peer) + ring_offset(peer->end, 0);
    for (uint64_t tail = 0; !stop;) {
        if (tail - load64(theirs(peer) + HEAD) > SMALL - 64) continue;
        for (int count = 0; count < 7; count++, tail++) ring[tail & (SMALL - 1)] = (char)(tail % 127);
        store64(mine(peer) + TAIL, tail);
        if (load32(theirs(peer) + READ_SLEEPERS)) send(peer->bell, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return NULL;
}

static int vectors_have_no_gaps(void) {
    struct peer peer;
    int fd = connection(&peer);
    start(write_on, &peer);
    unsigned char bytes[300];
    uint64_t position = 0;
    int right = 1;
    for (int round = 0; round < 100000 && right; round++) {
        struct iovec vectors[3] = {{bytes, 100}, {bytes + 100, 100}, {bytes + 200, 100}};
        ssize_t got = readv(fd, vectors, 3);
        for (ssize_t index = 0; index < got; index++) right &= bytes[index] == position++ % 127;
    }
    finish();
    CHECK(right);
    leave(&peer, fd);
    return 1;
}

static int peek_stops_at_an_urgent_byte(void) {
    for (int ended = 0; ended < 2; ended++) {
        struct peer peer;
        int fd = connection(&peer);
        memcpy(slot_of(&peer) + ring_offset(0, 0), "abcUde", 6);
        store64(mine(&peer) + URGENT, 4);
        store64(mine(&peer) + TAIL, 6);
        if (ended) store32(mine(&peer) + STATE, FINISHED);
        char bytes[10];
        CHECK(recv(fd, bytes, 5, MSG_PEEK | MSG_WAITALL) == 3);
        CHECK(memcmp(bytes, "abc", 3) == 0);
        leave(&peer, fd);
    }
    return 1;
}

static void *change_the_hint(void *argument) {
    for (uint32_t hint = 1; !stop; hint++) store32(mine(argument) + HINT, hint);
    return NULL;
}

static void *change_the_tail(void *argument) {
    for (uint64_t count = 0; !stop; count++) store64(mine(argument) + TAIL, count & 1);
    return NULL;
}

static int deadlines_end_calls(void) {
    struct peer peer;
    int fd = connection(&peer);
    struct timeval limit = {0, 50000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    start(change_the_hint, &peer);
    char byte;
    CHECK(recv(fd, &byte, 1, 0) == -1 && errno == EAGAIN);
    static char many[3 << 20];
    while (send(fd, many, sizeof many, MSG_NOSIGNAL) > 0) {}
    CHECK(errno == EAGAIN);
    int file = open("/proc/self/exe", O_RDONLY);
    CHECK(sendfile(fd, file, NULL, 1000) == -1 && errno == EAGAIN);
    close(file);
    struct pollfd item = {fd, POLLIN, 0};
    CHECK(poll(&item, 1, 50) == 0);
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    CHECK(epoll_wait(set, &event, 1, 50) == 0);
    finish();
    /* Data that is there at one look and gone at the next: a wait may report it, and ends. */
    start(change_the_tail, &peer);
    for (int round = 0; round < 20; round++) {
        poll(&item, 1, 5);
        epoll_wait(set, &event, 1, 5);
        recv(fd, &byte, 1, MSG_PEEK);
    }
    finish();
    close(set);
    leave(&peer, fd);
    return 1;
}

static int mapped_pools(void) {
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) count += strstr(line, "/memfd:skein (deleted)") != NULL;
    fclose(maps);
    return count;
}

static int pools_go_though_the_peer_changed_the_sleepers(void) {
    int before = mapped_pools();
    for (int round = 0; round < 80; round++) {
        struct peer peer;
        int fd = connection(&peer);
        store32(theirs(&peer) + READ_SLEEPERS, 7);
        leave(&peer, fd);
        if (round % 20 == 0) usleep(60000);
    }
    /* 32 idle ones are kept, and those that rest after their close. */
    CHECK(mapped_pools() - before < 64);
    return 1;
}

static int half_an_end_is_an_end(void) {
    struct peer peer;
    int fd = connection(&peer);
    shutdown(peer.bell, SHUT_WR);
    char byte;
    CHECK(recv(fd, &byte, 1, 0) <= 0);
    leave(&peer, fd);
    fd = connection(&peer);
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    shutdown(peer.bell, SHUT_WR);
    CHECK(epoll_wait(set, &event, 1, 20000) == 1);
    struct pollfd item = {fd, POLLIN, 0};
    CHECK(poll(&item, 1, 20000) == 1);
    close(set);
    leave(&peer, fd);
    return 1;
}

static int strangers_hold_up_no_accept(void) {
    int listener = listener_of(128), strangers[100];
    fcntl(listener, F_SETFL, O_NONBLOCK);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int count = snprintf(name.sun_path + 1, 100, "skein/%d/tcp/%llx", VERSION, (unsigned long long)cookie);
    for (int index = 0; index < 100; index++) {
        strangers[index] = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        CHECK(connect(strangers[index], (void *)&name, (socklen_t)(3 + count)) == 0);
        CHECK(send(strangers[index], "nonsense", 8, 0) == 8);
    }
    CHECK(accept(listener, NULL, NULL) == -1 && errno == ECONNABORTED);
    CHECK(accept(listener, NULL, NULL) == -1 && errno == EAGAIN);
    for (int index = 0; index < 100; index++) close(strangers[index]);
    close(listener);
    return 1;
}

/* A listener whose hidden one is the peer's: made past the hooks, which would make their own. */
static int hostile_listener(int *hidden) {
    socklen_t length = sizeof address;
    address = (struct sockaddr_in){AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    int listener = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, length) || syscall(SYS_listen, listener, 16) || getsockname(listener, (void *)&address, &length)) exit(2);
    length = sizeof cookie;
    if (getsockopt(listener, SOL_SOCKET, SO_COOKIE, &cookie, &length) || (*hidden = hidden_listener(cookie)) < 0) exit(2);
    return listener;
}

static int call(struct peer *peer, int hidden) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&address, sizeof address) || meet_client(peer, hidden)) exit(2);
    return fd;
}

static int no_slot_serves_two_connections(void) {
    int hidden, listener = hostile_listener(&hidden);
    struct peer first, second;
    int one = call(&first, hidden);
    /* Both ends have released it, says the peer. */
    store32(first.pool + first.slot * 8, 1);
    store32(first.pool + first.slot * 8 + 4, 1);
    int other = call(&second, hidden);
    CHECK(first.slot != second.slot);
    close(one);
    close(other);
    part(&first);
    part(&second);
    close(listener);
    close(hidden);
    return 1;
}

static void *wait_for_ever(void *argument) {
    char byte;
    return (void *)recv(*(int *)argument, &byte, 1, 0);
}

static int own_shutdown_wakes_a_reader(void) {
    struct peer peer;
    int fd = connection(&peer);
    start(wait_for_ever, &fd);
    while (load32(theirs(&peer) + READ_SLEEPERS) == 0) usleep(1000);
    usleep(20000);
    store32(theirs(&peer) + READ_SLEEPERS, 0);
    shutdown(fd, SHUT_RD);
    finish();
    leave(&peer, fd);
    return 1;
}

/* Connects in a process of that user, as a client at one address of a group that has dialled another one. */
static void come_from(uid_t user, uint32_t client, uint32_t dialled) {
    pid_t child = fork();
    if (child == 0) {
        if (user && setuid(user)) _exit(2);
        struct peer peer = make_pool();
        _exit(say_hello_from(&peer, cookie, ntohs(address.sin_port), client, dialled) != 0);
    }
    waitpid(child, NULL, 0);
}

static int only_the_agent_speaks_for_others(void) {
    int listener = listener_at(INADDR_ANY, 16);
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    uint32_t other = inet_addr("198.18.0.9"), here = inet_addr("198.18.0.3");
    fcntl(listener, F_SETFL, O_NONBLOCK);
    come_from(0, other, here);
    int fd = accept(listener, (void *)&peer, &length);
    CHECK(fd >= 0 && peer.sin_addr.s_addr == other);
    CHECK(getsockname(fd, (void *)&peer, &length) == 0 && peer.sin_addr.s_addr == here);
    close(fd);
    come_from(0, htonl(INADDR_LOOPBACK), here);
    CHECK(accept(listener, NULL, NULL) < 0);
    come_from(0, other, inet_addr("10.0.0.1"));
    CHECK(accept(listener, NULL, NULL) < 0);
    if (geteuid() == 0) {
        come_from(12345, other, here);
        CHECK(accept(listener, NULL, NULL) < 0);
        come_from(12345, here, here);
        CHECK(accept(listener, NULL, NULL) < 0);
    }
    close(listener);
    listener = listener_at(INADDR_LOOPBACK, 16);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    come_from(0, other, here);
    CHECK(accept(listener, NULL, NULL) < 0);
    close(listener);
    return 1;
}

static const struct {
    const char *sentence;
    int (*holds)(void);
} CASES[] = {
    {"a read into several vectors leaves no gap while the peer writes", vectors_have_no_gaps},
    {"MSG_PEEK with MSG_WAITALL stops at an urgent byte, and does not look for ever", peek_stops_at_an_urgent_byte},
    {"deadlines end calls though the peer's words change all the time", deadlines_end_calls},
    {"pools are given back though the peer has changed who sleeps", pools_go_though_the_peer_changed_the_sleepers},
    {"a peer that shuts its Unix socket for writing counts as gone", half_an_end_is_an_end},
    {"an accept turns away a number of strangers, and then lets its program have a word", strangers_hold_up_no_accept},
    {"a slot serves one connection, whatever the server says about its release", no_slot_serves_two_connections},
    {"a program's own shutdown wakes its reader though the peer has changed who sleeps", own_shutdown_wakes_a_reader},
    {"a client is of another host of a group where root or the own user says so, and elsewhere it is none", only_the_agent_speaks_for_others},
};

/* Each case in a process of its own, so that one that hangs or crashes is one that fails. */
int main(void) {
    int failed = 0, total = sizeof CASES / sizeof *CASES;
    for (int index = 0; index < total; index++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            alarm(60);
            int good = CASES[index].holds();
            fflush(stdout);
            _exit(good ? 0 : 1);
        }
        int status = 0;
        waitpid(child, &status, 0);
        failed += status != 0;
        printf("%sok - %s\n", status ? "not " : "", CASES[index].sentence);
        if (WIFSIGNALED(status)) printf("# ended by signal %d\n", WTERMSIG(status));
    }
    printf("%d passed, %d failed\n", total - failed, failed);
    return failed != 0;
}
