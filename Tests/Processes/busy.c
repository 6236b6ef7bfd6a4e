// A server whose threads answer clients while others of them start programs, which inherit what is open: by system ("s"),
// by posix_spawn ("p"), or by an exec that fails ("e", of the file in the second argument). Says what went wrong at a client.
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { servers = 4, starters = 2, clients = 4, size_at_most = 60000, patience = 10 };

static int listener;
static struct sockaddr_in address = {.sin_family = AF_INET};
static socklen_t length = sizeof address;
static char how;
static char *file;
static double end;
static volatile int faults;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

// --- the server

static void *serve(void *unused) {
    (void)unused;
    static __thread char data[size_at_most];
    for (;;) {
        int connection = accept(listener, 0, 0);
        ssize_t got;
        while ((got = read(connection, data, sizeof data)) > 0)
            for (ssize_t sent = 0, more; sent < got && (more = write(connection, data + sent, got - sent)) > 0;) sent += more;
        close(connection);
    }
}

static void *start(void *unused) {
    (void)unused;
    char *arguments[] = {"true", 0};
    pid_t child;
    for (;;) {
        if (how == 's' && system("true") != 0) _exit(1);
        if (how == 'p' && posix_spawn(&child, "/bin/true", 0, 0, arguments, environ) == 0) waitpid(child, 0, 0);
        if (how == 'e') execve(file, arguments, environ);
        usleep(500);
    }
}

static pid_t make_server(void) {
    pid_t server = fork();
    if (server != 0) return server;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pthread_t thread;
    for (int count = 0; count < servers; count++) pthread_create(&thread, 0, serve, 0);
    for (int count = 0; count < starters; count++) pthread_create(&thread, 0, start, 0);
    for (;;) pause();
}

// --- the clients

static const char *exchange(unsigned *seed) {
    static __thread char sent[size_at_most], got[size_at_most];
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection, (struct sockaddr *)&address, length)) return "can't connect";
    struct timeval limit = {patience, 0};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    // Several times in one connection, so that it is there while programs come and go.
    for (int round = 0; round < 8; round++) {
        ssize_t size = rand_r(seed) % (round ? 200 : size_at_most) + 1;
        for (ssize_t index = 0; index < size; index++) sent[index] = (char)rand_r(seed);
        if (send(connection, sent, size, MSG_NOSIGNAL) != size) return "can't send";
        ssize_t count = recv(connection, got, size, MSG_WAITALL);
        if (count < 0) return "can't receive";
        if (count < size) return "the connection has ended";
        if (memcmp(sent, got, size)) return "other bytes have come back";
    }
    shutdown(connection, SHUT_WR);
    if (recv(connection, got, 1, 0) != 0) return "there is no end";
    close(connection);
    return 0;
}

static void *ask(void *number) {
    unsigned seed = (unsigned)(long)number;
    while (now() < end && !faults) {
        const char *fault = exchange(&seed);
        if (!fault) continue;
        perror(fault);
        faults = 1;
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    how = arguments[1][0];
    file = arguments[2];
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bind(listener, (struct sockaddr *)&address, length);
    listen(listener, 64);
    getsockname(listener, (struct sockaddr *)&address, &length);
    pid_t server = make_server();
    end = now() + atof(arguments[3]);
    pthread_t threads[clients];
    for (long number = 0; number < clients; number++) pthread_create(&threads[number], 0, ask, (void *)(number + 1));
    for (int number = 0; number < clients; number++) pthread_join(threads[number], 0);
    int has_ended = waitpid(server, 0, WNOHANG) != 0;
    if (has_ended) fprintf(stderr, "the server has ended\n");
    kill(server, SIGKILL);
    return faults || has_ended;
}
