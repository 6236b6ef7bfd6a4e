// A thread uses a stale number just when another thread accepts ("a") or connects ("c") and so has that very number for
// a moment: there the other one is held up by a tracer, so many times. Prints how often it read what is no byte of
// the stream, or how many connections went wrong; with TCP that is never. Exits with NOT_HERE where nobody may be traced.
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_HERE = 77 };

static int accepts, listener, stale, start[2], pauses[2], calls[2];
static volatile int *wrong;  // shared by all processes
static struct sockaddr_in address;
static socklen_t length = sizeof address;

static void limit_waits(int descriptor) {
    struct timeval limit = {20, 0};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

static int asks(void) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    limit_waits(client);
    char byte = 0;
    int is_answered = connect(client, (struct sockaddr *)&address, length) == 0 &&
        send(client, "a", 1, MSG_NOSIGNAL) == 1 && recv(client, &byte, 1, 0) == 1 && byte == 'a';
    close(client);
    return is_answered;
}

static void answer(void) {
    int server = accept(listener, 0, 0);
    limit_waits(server);
    char byte;
    if (recv(server, &byte, 1, 0) == 1) send(server, &byte, 1, MSG_NOSIGNAL);
    close(server);
}

static void work(int is_server) {
    for (;;) {
        if (is_server) answer();
        else *wrong += !asks();
    }
}

// The other thread: once for each pause of the first.
static void *use_stale(void *unused) {
    char byte;
    while (read(pauses[0], &byte, 1) == 1 && write(calls[1], &byte, 1) == 1) {
        char bytes[100];
        // The stream has one byte at most.
        if (accepts) *wrong += recv(stale, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK) > 1;
        else send(stale, "evil", 4, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return unused;
}

static void be_traced(void) {
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    pthread_t thread;
    pthread_create(&thread, 0, use_stale, 0);
    char byte;
    if (read(start[0], &byte, 1) != 1) _exit(2);
    work(accepts);
}

// Where an accepted connection is looked at, or one that has connected is put over its number; these calls are made for
// nothing else.
static int is_the_moment(pid_t process, int status) {
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) return 0;
    struct __ptrace_syscall_info call;
    ptrace(PTRACE_GET_SYSCALL_INFO, process, (void *)sizeof call, &call);
    return call.op == PTRACE_SYSCALL_INFO_ENTRY && call.entry.nr == (accepts ? SYS_recvmsg : SYS_dup3);
}

static void wait_for_use(void) {
    char byte;
    if (write(pauses[1], "x", 1) == 1 && read(calls[0], &byte, 1) == 1) usleep(500);
}

// Stops the process in so many connections; in between it runs free.
static void trace(pid_t process, int rounds) {
    int status;
    if (ptrace(PTRACE_SEIZE, process, 0, (void *)PTRACE_O_TRACESYSGOOD)) rounds = *wrong = NOT_HERE;
    if (write(start[1], "x", 1) != 1) return;
    for (int round = 0; *wrong != NOT_HERE && round < rounds; round++) {
        ptrace(PTRACE_INTERRUPT, process, 0, 0);
        while (waitpid(process, &status, __WALL) == process && WIFSTOPPED(status) && !is_the_moment(process, status))
            ptrace(PTRACE_SYSCALL, process, 0, 0);
        wait_for_use();
        ptrace(PTRACE_CONT, process, 0, 0);
        usleep(2000);
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    accepts = arguments[1][0] == 'a';
    wrong = mmap(0, sizeof *wrong, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bind(listener, (struct sockaddr *)&address, length);
    listen(listener, 64);
    getsockname(listener, (struct sockaddr *)&address, &length);
    if (pipe(start) || pipe(pauses) || pipe(calls)) return 2;
    int first = dup(listener), second = dup(listener);
    stale = accepts ? first : second;  // connect makes a socket beside the program's
    close(first);
    close(second);
    pid_t traced = fork();
    if (traced == 0) be_traced();
    pid_t peer = fork();
    if (peer == 0) work(!accepts);
    trace(traced, atoi(arguments[2]));
    kill(traced, SIGKILL);
    kill(peer, SIGKILL);
    if (*wrong == NOT_HERE) return NOT_HERE;
    printf("%d\n", *wrong);
    return 0;
}
