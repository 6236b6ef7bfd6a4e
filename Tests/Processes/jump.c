// Leaves accept ("a") or connect ("c") by siglongjmp from a signal handler, after more and more instructions, which the
// processor counts by a trap at each. Then other threads must be able to accept and connect, and connections must work.
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { patience = 20, trap_flag = 0x100, pairs = 12 };

static volatile long left;
static volatile int counts;
static sigjmp_buf place;
static int listener;
static struct sockaddr_in address;
static socklen_t length = sizeof address;

static void trap(int number, siginfo_t *information, void *context) {
    (void)number, (void)information;
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
    if (!counts) {
        *flags &= ~trap_flag;
    } else if (left-- == 0) {
        counts = 0;
        siglongjmp(place, 1);
    } else {
        *flags |= trap_flag;
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
    if (call == 'a') accept(listener, 0, 0);
    else connect(client, (struct sockaddr *)&address, length);
    counts = 0;
    return 1;
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

static const char *attempt(char call, long instructions, int *is_over) {
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bind(listener, (struct sockaddr *)&address, length);
    listen(listener, 64);
    getsockname(listener, (struct sockaddr *)&address, &length);
    int client = connected(), server = accept(listener, 0, 0);
    *is_over = leave(call, instructions);
    pthread_t thread;
    void *fault = 0;
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += patience;
    pthread_create(&thread, 0, go_on, 0);
    if (pthread_timedjoin_np(thread, &fault, &limit)) return "another thread hangs";
    if (fault) return fault;
    if ((fault = go_on(0))) return fault;
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
