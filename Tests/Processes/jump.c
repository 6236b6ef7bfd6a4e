// Leaves accept ("a"), connect ("c"), write ("w"), read ("r") or epoll_wait ("e") by siglongjmp from a signal handler, after
// more and more instructions, which the processor counts by a trap at each. Then other threads must be able to do the same,
// and connections must work. "W" and "R" are left by nothing: the handler writes or reads on the same connection.
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

// What is written first lies in the small ring, what comes after `filling` bytes in the large one.
enum { patience = 20, trap_flag = 0x100, pairs = 12, filling = 16300, more = 300, handled = 64 };

static volatile long left;
static volatile int counts;
static sigjmp_buf place;
static int listener, ends[2], set, done;
static char handles;
static char stream[filling + more], got[filling + 2 * more], between[handled];
static struct sockaddr_in address;
static socklen_t length = sizeof address;

static void trap(int number, siginfo_t *information, void *context) {
    (void)number, (void)information;
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    if (!counts) {
        *flags &= ~trap_flag;
    } else if (left-- == 0) {
        counts = 0;
        *flags &= ~trap_flag;
        if (handles == 'W') write(ends[0], memset(between, 'h', handled), handled);
        else if (handles == 'R') read(ends[1], between, handled);
        else siglongjmp(place, 1);
    } else {
        *flags |= trap_flag;
    }
}

static void make(char call, int client) {
    struct epoll_event event;
    switch (call) {
    case 'a': accept(listener, 0, 0); return;
    case 'c': connect(client, (struct sockaddr *)&address, length); return;
    case 'w': case 'W': done = (int)write(ends[0], stream + filling, more); return;
    case 'r': case 'R': done = (int)read(ends[1], got, more); return;
    case 'e': epoll_wait(set, &event, 1, -1); return;
    }
}

// Returns whether the call came to its end before its instructions were counted down.
static int leave(char call, long instructions) {
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (call == 'a') connect(client, (struct sockaddr *)&address, length);
    if (sigsetjmp(place, 1)) return 0;
    left = instructions;
    counts = 1;
    raise(SIGTRAP);
    make(call, client);
    int is_over = counts;
    counts = 0;
    return is_over || !strchr("WR", call);
}

static int connected(void) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval limit = {patience, 0};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return connect(client, (struct sockaddr *)&address, length) == 0 ? client : -1;
}

// Several at once, half of them closed and made anew. The client of the call that was left may be among them.
static void *go_on(void *unused) {
    (void)unused;
    int ends[pairs][2];
    for (int round = 0; round < 2; round++) {
        for (int pair = 0; pair < pairs; pair += 1 + round) {
            ends[pair][0] = connected();
            ends[pair][1] = accept(listener, 0, 0);
            if (ends[pair][0] < 0 || ends[pair][1] < 0) return "a connection can't be made";
        }
        for (int pair = 0; pair < pairs; pair += 2 - round) {
            close(ends[pair][0]);
            close(ends[pair][1]);
        }
    }
    return 0;
}

static int echoes(int one, int other) {
    char byte = 0;
    return write(one, "x", 1) == 1 && read(other, &byte, 1) == 1 && byte == 'x';
}

// Before the call that is left: a ring that is nearly full, and for reading one that ends in the middle of what is read.
static void prepare(char call) {
    handles = call;
    for (int index = 0; index < filling + more; index++) stream[index] = (char)(index % 251);
    if (call == 'e') {
        set = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
        epoll_ctl(set, EPOLL_CTL_ADD, ends[1], &event);
        write(ends[0], "x", 1);
    } else if (call == 'w' || call == 'W') {
        write(ends[0], stream, filling);
    } else if (call == 'r' || call == 'R') {
        write(ends[0], stream, filling);
        write(ends[0], stream + filling, more);
        read(ends[1], got, filling - more / 2);
    }
}

// The stream, as far as the call that was left had come with it, and nothing else; then what this thread writes.
static void *write_on(void *unused) {
    (void)unused;
    if (write(ends[0], "end", 3) != 3) return "nothing can be written";
    shutdown(ends[0], SHUT_WR);
    int count = 0, now;
    while ((now = (int)read(ends[1], got + count, sizeof got - (size_t)count)) > 0) count += now;
    if (now < 0 || (count != filling + 3 && count != filling + more + 3)) return "the stream has another length";
    return memcmp(got, stream, (size_t)count - 3) || memcmp(got + count - 3, "end", 3) ? "the stream is broken" : 0;
}

static void *read_on(void *unused) {
    (void)unused;
    shutdown(ends[0], SHUT_WR);
    int count = 0, now;
    while ((now = (int)read(ends[1], got + count, sizeof got - (size_t)count)) > 0) count += now;
    if (now < 0 || (count != more + more / 2 && count != more / 2)) return "the stream has another length";
    return memcmp(got, stream + filling + more - count, (size_t)count) ? "the stream is broken" : 0;
}

// What the handler wrote or read lies behind what the call did, or before it, each in one piece.
static const char *check_order(char call, int is_over) {
    const char *all = stream + filling - more / 2;
    if (is_over) return 0;
    if (done != more) return "the call did it in part";
    if (call == 'R') {
        int first = memcmp(got, all, more) == 0;
        return memcmp(got, all + !first * handled, more) || memcmp(between, all + first * more, handled) ? "bytes were lost" : 0;
    }
    shutdown(ends[0], SHUT_WR);
    if (recv(ends[1], got, sizeof got, MSG_WAITALL) != filling + more + handled) return "the stream has another length";
    int first = memcmp(got + filling, between, handled) != 0;
    return memcmp(got, stream, filling) || memcmp(got + filling + !first * handled, stream + filling, more)
        || memcmp(got + filling + first * more, between, handled) ? "the stream is broken" : 0;
}

static void *wait_on(void *unused) {
    (void)unused;
    struct epoll_event event, room = {.events = EPOLLOUT};
    if (epoll_wait(set, &event, 1, patience * 1000) != 1) return "a waiter hears of nothing";
    if (epoll_ctl(set, EPOLL_CTL_DEL, ends[1], 0) || epoll_wait(set, &event, 1, 0) != 0) return "a member doesn't leave";
    if (epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &room) || epoll_wait(set, &event, 1, 0) != 1) return "none enters";
    return 0;
}

static void *go_on_after(char call) {
    pthread_t thread;
    void *fault = 0;
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += patience;
    pthread_create(&thread, 0, call == 'w' ? write_on : call == 'r' ? read_on : call == 'e' ? wait_on : go_on, 0);
    return pthread_timedjoin_np(thread, &fault, &limit) ? "another thread hangs" : fault;
}

static const char *attempt(char call, long instructions, int *is_over) {
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bind(listener, (struct sockaddr *)&address, length);
    listen(listener, 64);
    getsockname(listener, (struct sockaddr *)&address, &length);
    int client = connected(), server = accept(listener, 0, 0);
    ends[0] = connected();
    ends[1] = accept(listener, 0, 0);
    prepare(call);
    *is_over = leave(call, instructions);
    if (strchr("WR", call)) return check_order(call, *is_over);
    const char *fault = go_on_after(call);
    if (!fault && (call == 'a' || call == 'c')) fault = go_on(0);
    if (fault) return fault;
    return echoes(client, server) && echoes(server, client) ? 0 : "an old connection is broken";
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    char call = arguments[1][0];
    long step = atol(arguments[2]), instructions = 0;
    for (int is_over = 0; !is_over; instructions += step) {
        pid_t child = fork();
        if (child == 0) {
            const char *fault = attempt(call, instructions, &is_over);
            if (fault) printf("%c, %ld instructions: %s\n", call, instructions, fault);
            fflush(stdout);
            _exit(fault ? 1 : is_over ? 2 : 0);
        }
        int status;
        waitpid(child, &status, 0);
        if (!WIFEXITED(status)) printf("%c, %ld instructions: signal %d\n", call, instructions, WTERMSIG(status));
        if (!WIFEXITED(status) || WEXITSTATUS(status) == 1) return 1;
        is_over = WEXITSTATUS(status) == 2;
    }
    printf("%ld instructions\n", instructions);
    return 0;
}
