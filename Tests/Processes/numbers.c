// A server of three threads that share one epoll set: who serves a connection gives it a new number (dup), registers that,
// and closes the old one, while another thread may serve it by the new one already. Prints how many of the messages
// its clients got back.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { connections = 12, messages = 1500, threads = 3 };
static int set;

static void add(int stream) {
    struct epoll_event event = {EPOLLIN | EPOLLONESHOT, {.fd = stream}};
    if (epoll_ctl(set, EPOLL_CTL_ADD, stream, &event)) perror("epoll_ctl"), _exit(3);
}

static void *serve(void *none) {
    (void)none;
    struct epoll_event event;
    while (epoll_wait(set, &event, 1, -1) >= 0) {
        char byte;
        int stream = event.data.fd;
        ssize_t got = read(stream, &byte, 1);
        if (got == 1 && write(stream, &byte, 1) != 1) _exit(4);
        epoll_ctl(set, EPOLL_CTL_DEL, stream, &event);
        if (got == 1) {
            int copy = dup(stream);
            add(copy);
        }
        close(stream);
    }
    return 0;
}

int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    if (bind(listener, (void *)&address, length) || listen(listener, connections)) return 1;
    getsockname(listener, (void *)&address, &length);
    pid_t server = fork();
    if (server == 0) {
        set = epoll_create1(0);
        for (int index = 0; index < connections; index++) add(accept(listener, 0, 0));
        pthread_t thread;
        for (int index = 1; index < threads; index++) pthread_create(&thread, 0, serve, 0);
        serve(0);
        _exit(5);
    }
    int streams[connections], answers = 0;
    struct timeval patience = {10, 0};
    for (int index = 0; index < connections; index++) {
        streams[index] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(streams[index], (void *)&address, length)) return 1;
        setsockopt(streams[index], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    for (int message = 0; message < messages; message++) {
        char byte = (char)message, answer;
        for (int index = 0; index < connections; index++)
            if (send(streams[index], &byte, 1, MSG_NOSIGNAL) != 1) return 2;
        for (int index = 0; index < connections; index++) {
            if (recv(streams[index], &answer, 1, 0) != 1 || answer != byte) {
                printf("%d\n", answers);
                return 2;
            }
            answers++;
        }
    }
    printf("%d\n", answers);
    for (int index = 0; index < connections; index++) close(streams[index]);
    kill(server, SIGKILL);
    return 0;
}
