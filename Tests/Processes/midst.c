// One thread writes more than its peer's ring holds; a signal handler comes in and writes a byte too: blocking, or
// with MSG_DONTWAIT and poll. Prints how many of the rounds the peer answered, having counted their bytes.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { size = 1500000, rounds = 300 };
static int stream;
static int polls;

static void interrupt(int number) {
    (void)number;
    int saved = errno;
    if (!polls) {
        if (write(stream, "!", 1) != 1 && errno != EINTR) _exit(3);
    } else {
        struct pollfd item = {stream, POLLOUT, 0};
        while (send(stream, "!", 1, MSG_DONTWAIT) != 1 && errno == EAGAIN) poll(&item, 1, -1);
    }
    errno = saved;
}

static void answer(int peer) {
    static char bytes[1 << 20];
    long count = 0;
    for (ssize_t got; (got = read(peer, bytes, sizeof bytes)) > 0;) {
        for (ssize_t index = 0; index < got; index++) count += bytes[index] == '.';
        for (; count >= size; count -= size)
            if (write(peer, "k", 1) != 1) _exit(4);
    }
    _exit(count == 0 ? 0 : 5);
}

int main(int count, char **words) {
    polls = count > 1 && !strcmp(words[1], "poll");
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    if (bind(listener, (void *)&address, length) || listen(listener, 1)) return 1;
    getsockname(listener, (void *)&address, &length);
    if (fork() == 0) answer(accept(listener, 0, 0));
    stream = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(stream, (void *)&address, length)) return 1;
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGALRM, &action, 0);
    char *bytes = malloc(size);
    memset(bytes, '.', size);
    int answers = 0;
    for (int round = 0; round < rounds; round++) {
        // The peer is asleep by then.
        usleep(300);
        struct itimerval soon = {{0, 0}, {0, 20 + round % 40 * 10}};
        setitimer(ITIMER_REAL, &soon, 0);
        for (long done = 0; done < size;) {
            ssize_t wrote = write(stream, bytes + done, size - done);
            if (wrote > 0) done += wrote;
            else if (errno != EINTR) return 2;
        }
        char byte;
        ssize_t got;
        while ((got = read(stream, &byte, 1)) < 0 && errno == EINTR) {}
        answers += got == 1;
    }
    printf("%d\n", answers);
    return 0;
}
