/* Cancels a thread in each call that can block on a connection, and uses the connection afterwards. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char *const calls[] = {"read", "poll", "select", "epoll_wait", "accept", "read with a time limit", "write"};
enum { READ, POLL, SELECT, EPOLL, ACCEPT, LIMITED, WRITE, CALLS };
static int listener, client, server, cleaned;

static void clean(void *unused) {
    (void)unused;
    cleaned++;
}

static void block(int call) {
    static char bytes[1 << 20];
    struct pollfd item = {server, POLLIN, 0};
    struct epoll_event event = {.events = EPOLLIN};
    struct timeval limit = {20, 0};
    fd_set set;
    int epoll;
    switch (call) {
    case READ: read(server, bytes, 8); break;
    case POLL: poll(&item, 1, -1); break;
    case SELECT:
        FD_ZERO(&set);
        FD_SET(server, &set);
        select(server + 1, &set, 0, 0, 0);
        break;
    case EPOLL:
        epoll = epoll_create1(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, server, &event);
        epoll_wait(epoll, &event, 1, -1);
        break;
    case ACCEPT: accept(listener, 0, 0); break;
    case LIMITED:
        setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        read(server, bytes, 8);
        break;
    case WRITE:
        for (;;) write(server, bytes, sizeof bytes);
    }
}

static void *run(void *call) {
    pthread_cleanup_push(clean, 0);
    block((int)(long)call);
    pthread_cleanup_pop(0);
    return 0;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&address, length);
    listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&address, &length);
    int failures = 0;
    for (long call = 0; call < CALLS; call++) {
        client = socket(AF_INET, SOCK_STREAM, 0);
        connect(client, (struct sockaddr *)&address, length);
        server = accept(listener, 0, 0);
        pthread_t thread;
        void *result;
        cleaned = 0;
        pthread_create(&thread, 0, run, (void *)call);
        usleep(50000);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        char bytes[8];
        int got = write(client, "after", 5) == 5 ? (int)read(server, bytes, sizeof bytes) : -1;
        if (result != PTHREAD_CANCELED || cleaned != 1 || got != 5) {
            printf("%s: cancelled %d, cleaned up %d times, then read %d\n", calls[call],
                   result == PTHREAD_CANCELED, cleaned, got);
            failures++;
        }
        close(client);
        close(server);
    }
    return failures;
}
