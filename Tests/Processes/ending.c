// A worker whose signal handler ends it in the midst of its accept leaves the client to others: after each system call that
// its accept makes, from the one that has taken the client out of the queue to the one that takes the hello out.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int is_right, const char *what) {
    if (is_right) return;
    perror(what);
    exit(1);
}

static void end(int number) {
    (void)number;
    _exit(0);
}

static pid_t begin_worker(int listener) {
    pid_t worker = fork();
    if (worker) return worker;
    signal(SIGUSR1, end);
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(77);
    raise(SIGSTOP);
    _exit(accept(listener, 0, 0) < 0 ? 1 : 2);
}

/* Lets it run until the wanted call of its accept has returned, and ends it there. False where it doesn't make that many. */
static int end_after(pid_t worker, int wanted) {
    struct __ptrace_syscall_info info;
    int status, calls = -1;
    unsigned long number = 0, flags = 0;
    ptrace(PTRACE_SETOPTIONS, worker, 0, PTRACE_O_TRACESYSGOOD);
    while (ptrace(PTRACE_SYSCALL, worker, 0, 0) == 0 && waitpid(worker, &status, 0) == worker && WIFSTOPPED(status)) {
        check(ptrace(PTRACE_GET_SYSCALL_INFO, worker, sizeof info, &info) > 0, "ptrace");
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            number = info.entry.nr;
            flags = info.entry.args[3];
            if (calls >= 0 && number == SYS_recvfrom && !(flags & MSG_PEEK)) break;
        } else if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
            if (number == SYS_accept4 && info.exit.rval >= 0) calls = 0;
            else if (calls >= 0 && ++calls == wanted) {
                check(ptrace(PTRACE_DETACH, worker, 0, SIGUSR1) == 0, "ptrace");
                check(waitpid(worker, &status, 0) == worker && status == 0, "worker");
                return 1;
            }
        }
    }
    kill(worker, SIGKILL);
    waitpid(worker, &status, 0);
    return 0;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), ends = 0, is_ended = 1;
    check(bind(listener, (void *)&address, length) == 0 && listen(listener, 8) == 0, "listen");
    getsockname(listener, (void *)&address, &length);
    while (is_ended) {
        pid_t worker = begin_worker(listener);
        int status, client = socket(AF_INET, SOCK_STREAM, 0);
        check(waitpid(worker, &status, 0) == worker, "worker");
        if (!WIFSTOPPED(status)) return WEXITSTATUS(status);
        check(connect(client, (void *)&address, length) == 0 && write(client, "x", 1) == 1, "connect");
        int family = 0;
        socklen_t size = sizeof family;
        syscall(SYS_getsockopt, client, SOL_SOCKET, SO_DOMAIN, &family, &size);
        check(family == AF_UNIX, "the connection is not in memory");
        is_ended = end_after(worker, ends + 1);
        if (is_ended) {
            char byte = 0;
            int server = accept(listener, 0, 0);
            check(server >= 0 && read(server, &byte, 1) == 1 && byte == 'x', "client");
            check(write(server, "y", 1) == 1 && read(client, &byte, 1) == 1 && byte == 'y', "server");
            close(server);
            ends++;
        }
        close(client);
    }
    printf("%s\n", ends > 3 ? "served" : "ended too rarely");
    return 0;
}
