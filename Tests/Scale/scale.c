/* scale serve            echoes messages on any number of connections, by epoll; prints its port
   scale fork             the same, with a child for each connection
   scale many PORT COUNT  so many connections at the same time, with a message on each when a line comes on stdin
   scale short PORT COUNT so many connections one after the other, with a message on each */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE = 64 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in address_of(int port) {
    return (struct sockaddr_in){AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
}

static int listen_here(void) {
    struct sockaddr_in address = address_of(0);
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, length) || listen(listener, 1024) || getsockname(listener, (void *)&address, &length)) fail("listen");
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

/* Whether the connection is still there. */
static int echo(int fd) {
    char message[MESSAGE];
    ssize_t count = recv(fd, message, sizeof message, 0);
    return count > 0 && send(fd, message, (size_t)count, MSG_NOSIGNAL) == count;
}

static void serve(void) {
    int listener = listen_here(), set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(set, events, 256, -1);
        for (int index = 0; index < count; index++) {
            int fd = events[index].data.fd;
            if (fd != listener) {
                if (!echo(fd)) close(fd);
                continue;
            }
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = accept(listener, NULL, NULL)};
            if (event.data.fd >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, event.data.fd, &event)) fail("epoll_ctl");
        }
    }
}

static void serve_by_fork(void) {
    int listener = listen_here();
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        if (fork() == 0) {
            while (echo(fd)) {}
            _exit(0);
        }
        close(fd);
    }
}

static int connected(int port) {
    struct sockaddr_in address = address_of(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (void *)&address, sizeof address)) fail("connect");
    return fd;
}

static void exchange(int fd, int number) {
    char sent[MESSAGE], got[MESSAGE];
    memset(sent, number, sizeof sent);
    if (send(fd, sent, sizeof sent, 0) != MESSAGE || recv(fd, got, sizeof got, MSG_WAITALL) != MESSAGE || memcmp(sent, got, MESSAGE)) fail("exchange");
}

static void say(const char *word) {
    printf("%s\n", word);
    fflush(stdout);
}

static void many(int port, int count) {
    char line[64];
    int *fds = malloc(sizeof *fds * (size_t)count);
    for (int index = 0; index < count; index++) fds[index] = connected(port);
    say("connected");
    for (int round = 0; fgets(line, sizeof line, stdin); round++) {
        for (int index = 0; index < count; index++) exchange(fds[index], index + round);
        say("exchanged");
    }
    for (int index = 0; index < count; index++) close(fds[index]);
    say("closed");
    pause();
}

static void one_by_one(int port, int count) {
    for (int index = 0; index < count; index++) {
        if (index == count / 10) say("begun");
        if (index == count / 10 && getchar() == EOF) fail("getchar");
        int fd = connected(port);
        exchange(fd, index);
        close(fd);
    }
    say("done");
    pause();
}

int main(int count, char **arguments) {
    const char *role = count > 1 ? arguments[1] : "";
    struct rlimit limit = {40000, 40000};
    setrlimit(RLIMIT_NOFILE, &limit);
    if (strcmp(role, "serve") == 0) serve();
    if (strcmp(role, "fork") == 0) serve_by_fork();
    if (count == 4 && strcmp(role, "many") == 0) many(atoi(arguments[2]), atoi(arguments[3]));
    if (count == 4 && strcmp(role, "short") == 0) one_by_one(atoi(arguments[2]), atoi(arguments[3]));
    return 2;
}
