// What the memory of a child of vfork is: that of its parent where there is no socket, whatever the child then does with its
// descriptors. Says for each of three calls whether it was, and whether a connection is in memory after the last.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT 256

static void check(int is_right, const char *what) {
    if (is_right) return;
    perror(what);
    _exit(1);
}

static void connected(int *client, int *server) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(listener, (void *)&address, length) == 0 && listen(listener, 8) == 0, "listen");
    getsockname(listener, (void *)&address, &length);
    *client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(connect(*client, (void *)&address, length) == 0, "connect");
    *server = accept4(listener, 0, 0, SOCK_CLOEXEC);
    check(*server >= 0, "accept");
    close(listener);
}

static void carries(int client, int server) {
    char byte = 0;
    check(write(client, "x", 1) == 1 && read(server, &byte, 1) == 1 && byte == 'x', "bytes");
}

/* How many descriptors there are that the program itself can't use. */
static int hidden_numbers(void) {
    int count = 0;
    for (int number = 3; number < LIMIT; number++)
        if (syscall(SYS_fcntl, number, F_GETFD) >= 0 && fcntl(number, F_GETFD) < 0) count++;
    return count;
}

/* The child does to its descriptors what it can, the last ones of its limit among them, and executes a program. */
static const char *lent(const char *program) {
    static volatile int mark;
    mark = 0;
    pid_t child = vfork();
    if (child == 0) {
        mark = 1;
        for (int number = 3; number < LIMIT; number++) {
            close(number);
            dup2(2, number);
            fcntl(number, F_SETFD, FD_CLOEXEC);
        }
        int made = socket(AF_INET, SOCK_STREAM, 0);
        check(made < 0 && errno == EMFILE, "socket");
        close(3);
        check(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) == 3, "another socket");
        close_range(3, ~0u, 0);
        execl(program, program, "child", (char *)0);
        _exit(1);
    }
    int status;
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child");
    return mark ? "lent" : "kept";
}

/* A child that lends the memory on, and then makes connections, leaves nothing of them at numbers that are its parent's. */
static void lends_on(void) {
    pid_t child = vfork();
    if (child == 0) {
        int client, server;
        pid_t inner = vfork();
        if (inner == 0) {
            dup2(2, 3);
            _exit(0);
        }
        check(inner > 0 && waitpid(inner, 0, 0) == inner, "inner child");
        connected(&client, &server);
        carries(client, server);
        _exit(0);
    }
    int status;
    check(child > 0 && waitpid(child, &status, 0) == child && status == 0, "child that lends on");
    int files[4];
    for (int index = 0; index < 4; index++) {
        char byte;
        files[index] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        check(files[index] >= 0 && read(files[index], &byte, 1) == 1, "file at a number that was the child's");
    }
    for (int index = 0; index < 4; index++) close(files[index]);
}

int main(int count, char **arguments) {
    if (count > 1) return 0;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = LIMIT;
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    lends_on();
    printf("%s", lent(arguments[0]));
    int client, server;
    connected(&client, &server);
    printf(" %s", lent(arguments[0]));
    carries(client, server);
    close(client);
    close(server);
    int hidden = hidden_numbers();
    printf(" %s", lent(arguments[0]));
    check(hidden > 0 && hidden_numbers() == hidden, "hidden descriptors");
    connected(&client, &server);
    carries(client, server);
    int family = 0;
    socklen_t length = sizeof family;
    check(syscall(SYS_getsockopt, client, SOL_SOCKET, SO_DOMAIN, &family, &length) == 0, "getsockopt");
    printf(" %s\n", family == AF_UNIX ? "in memory" : "elsewhere");
    return 0;
}
