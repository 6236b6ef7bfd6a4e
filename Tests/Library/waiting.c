/* poll, select, epoll, fork, dup and death. */
#include "check.h"

static void wait_for_everything(int listener) {
    check(poll_now(listener, POLLIN, 3000) == POLLIN, "poll: a listener is readable when a connection waits");
    int fd = STPaccept(listener, NULL, NULL);
    check(poll_now(fd, POLLIN | POLLOUT, 0) == POLLOUT, "a connection without data is writable only");
    double start = now();
    check(poll_now(fd, POLLIN, 80) == 0 && now() - start > 0.07, "poll waits its time");
    STPsend(fd, "1", 1, 0);
    check(poll_now(fd, POLLIN, 3000) == POLLIN, "poll wakes for data");
    char text[16];
    check(read(fd, text, sizeof text) == 1, "read takes it");

    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval limit = {3, 0};
    STPsend(fd, "2", 1, 0);
    check(select(fd + 1, &set, NULL, NULL, &limit) == 1 && FD_ISSET(fd, &set), "select wakes for data");
    check(STPrecv(fd, text, sizeof text, 0) == 1, "STPrecv takes it");

    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u64 = 5}}, got;
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "an STP socket enters an epoll set");
    STPsend(fd, "3", 1, 0);
    check(epoll_wait(epoll, &got, 1, 3000) == 1 && got.data.u64 == 5 && got.events == EPOLLIN, "epoll wakes for data");
    check(read(fd, text, sizeof text) == 1 && epoll_wait(epoll, &got, 1, 0) == 0, "and is quiet when it was read");
    event.events = EPOLLIN | EPOLLET;
    epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
    STPsend(fd, "4", 1, 0);
    check(epoll_wait(epoll, &got, 1, 3000) == 1 && epoll_wait(epoll, &got, 1, 30) == 0, "edge-triggered: once");
    read(fd, text, sizeof text) == 1 ? (void)0 : abort();
    STPsend(fd, "5", 1, 0);
    check(epoll_wait(epoll, &got, 1, 3000) == 1 && (got.events & (EPOLLIN | EPOLLRDHUP)), "the end wakes it too");
    check(read(fd, text, sizeof text) == 0, "and is read as such");
    STPclose(fd);
}
static void answer(int port) {
    int fd = new_socket();
    nap(50);
    stp_connect(fd, port);
    char byte;
    while (STPrecv(fd, &byte, 1, 0) == 1) {
        nap(60);
        if (byte == '5') break;
        if (STPsend(fd, &byte, 1, 0) != 1) break;
    }
    STPclose(fd);
}

static void listen_in_a_set(int listener) {
    int fresh = new_socket();
    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.fd = listener}}, got[4];
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0, "a listener enters an epoll set");
    check(epoll_wait(epoll, got, 4, 3000) == 1 && got[0].data.fd == listener, "and wakes it, once for a connection");
    STPclose(STPaccept(listener, NULL, NULL));
    check(epoll_wait(epoll, got, 4, 0) == 0, "and is quiet when all are accepted");
    fd_set set;
    FD_ZERO(&set);
    FD_SET(listener, &set);
    struct timeval limit = {3, 0};
    check(select(listener + 1, &set, NULL, NULL, &limit) == 1, "select on a listener");
    STPclose(STPaccept(listener, NULL, NULL));
    STPclose(fresh);
}
static void connect_twice(int port) {
    for (int round = 0; round < 2; round++) {
        nap(100);
        int fd = new_socket();
        stp_connect(fd, port);
        STPclose(fd);
    }
}

/* A worker per connection, forked, as old servers do; the parent closes its copy. */
static void forking_server(int listener) {
    for (int round = 0; round < 4; round++) {
        int fd = STPaccept(listener, NULL, NULL);
        if (fork() == 0) {
            close(listener);
            char text[64];
            ssize_t count;
            while ((count = read(fd, text, sizeof text)) > 0)
                if (write(fd, text, (size_t)count) != count) break;
            STPclose(fd);
            _exit(0);
        }
        double start = now();
        STPclose(fd);
        if (now() - start > 0.5) check(0, "closing a copy does not wait");
    }
    while (wait(NULL) > 0) {}
}
static void echo_client(int port) {
    int fds[4], good = 0;
    for (int round = 0; round < 4; round++) {
        fds[round] = new_socket();
        stp_connect(fds[round], port);
    }
    for (int turn = 0; turn < 50; turn++)
        for (int round = 0; round < 4; round++) {
            char text[16], back[16] = "";
            int length = snprintf(text, sizeof text, "%d/%d", turn, round);
            STPsend(fds[round], text, (size_t)length, 0);
            good += STPrecv(fds[round], back, (size_t)length, MSG_WAITALL) == length && memcmp(text, back, (size_t)length) == 0;
        }
    check(good == 200, "four forked workers answer 200 messages (%d)", good);
    for (int round = 0; round < 4; round++) {
        char byte;
        STPshutdown(fds[round], 1);
        if (STPrecv(fds[round], &byte, 1, 0) != 0) check(0, "each ends when its worker does");
        STPclose(fds[round]);
    }
}

/* Workers that share the listener. */
static void preforked_server(int listener) {
    for (int worker = 0; worker < 3; worker++)
        if (fork() == 0) {
            alarm(20);
            for (;;) {
                int fd = STPaccept(listener, NULL, NULL);
                char byte = 0;
                if (fd < 0 || STPrecv(fd, &byte, 1, 0) != 1) _exit(1);
                STPsend(fd, &byte, 1, 0);
                STPclose(fd);
                if (byte == 'q') _exit(0);
            }
        }
    close(listener);
    int good = 0, status;
    while (wait(&status) > 0) good += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    check(good == 3, "three workers that share a listener accept (%d)", good);
}
static void many_clients(int port) {
    int good = 0;
    for (int round = 0; round < 63; round++) {
        int fd = new_socket();
        char byte = round < 60 ? 'a' : 'q';
        if (stp_connect(fd, port) == 0 && STPsend(fd, &byte, 1, 0) == 1 && STPrecv(fd, &byte, 1, 0) == 1) good++;
        STPclose(fd);
    }
    check(good == 63, "and each client is served once (%d of 63)", good);
}

/* A socket that parent and child both use; one dies. */
static void shared_end(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    pid_t child = fork();
    if (child == 0) {
        STPsend(fd, "c", 1, 0);
        raise(SIGKILL);
    }
    waitpid(child, NULL, 0);
    nap(50);
    STPsend(fd, "p", 1, 0);
    char byte;
    check(STPrecv(fd, &byte, 1, 0) == 1, "the parent's end outlives a killed child that shared it");
    STPclose(fd);
}
static void both_speak(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    char text[8] = "";
    check(STPrecv(fd, text, 2, MSG_WAITALL) == 2 && memcmp(text, "cp", 2) == 0, "both processes of a shared end send on it");
    check(poll_now(fd, POLLIN, 50) == 0, "no end is reported while one holds it");
    STPsend(fd, "x", 1, 0);
    check(STPrecv(fd, text, 1, 0) == 0, "it ends when the last one closes");
    STPclose(fd);
}

static void child_keeps_it(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    if (fork() == 0) {
        nap(150);
        STPsend(fd, "late", 4, 0);
        _exit(0);
    }
    _exit(0);
}
static void parent_gone(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    char text[8];
    check(STPrecv(fd, text, 4, MSG_WAITALL) == 4, "a forked child that keeps the end speaks after its parent has gone");
    check(STPrecv(fd, text, 4, 0) == 0, "exit of the last one is the end");
}

/* Killed at a random moment, fifty times. */
static void chatter(int fd) {
    char text[1000];
    memset(text, 'x', sizeof text);
    for (;;)
        if (STPsend(fd, text, (size_t)(1 + rand() % 999), MSG_NOSIGNAL) < 0) return;
}
static void killed_server(int listener) {
    for (int round = 0; round < 50; round++) {
        pid_t child = fork();
        if (child == 0) {
            int fd = STPaccept(listener, NULL, NULL);
            close(listener);
            chatter(fd);
            _exit(0);
        }
        nap(3 + rand() % 10);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    nap(100);
}
static void survive(int port) {
    double slowest = 0;
    int ends = 0;
    for (int round = 0; round < 50; round++) {
        int fd = new_socket();
        if (stp_connect(fd, port) == 0) {
            char text[4096];
            double last = now();
            while (STPrecv(fd, text, sizeof text, 0) > 0) last = now();
            if (now() - last > slowest) slowest = now() - last;
            ends++;
        }
        close(fd);
    }
    check(ends > 10 && slowest < 1.0, "kill -9 while it sends: the end comes at once, %d times (slowest %.3f s)", ends, slowest);
}

static void bells(int listener) { STPclose(STPaccept(listener, NULL, NULL)); int fd = STPaccept(listener, NULL, NULL); nap(100); STPclose(fd); }
static void dup_and_close(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    STPclose(fd);
    fd = new_socket();
    stp_connect(fd, port);
    int copy = dup(fd);
    double start = now();
    STPsend(copy, "unread", 6, 0);
    check(STPclose(fd) == 0 && now() - start < 0.09, "closing one of two copies does not wait");
    check(STPsend(copy, "x", 1, 0) == 1, "and the other still works");
    int other = dup2(copy, 100);
    check(other == 100 && STPsend(100, "x", 1, 0) == 1 && fcntl(100, F_SETFL, O_NONBLOCK) == 0, "dup2 and fcntl work");
    char byte;
    check(STPrecv(copy, &byte, 1, 0) < 0 && errno == EAGAIN, "O_NONBLOCK holds for every copy");
    int queued = 0;
    check(ioctl(100, TIOCOUTQ, &queued) == 0 && queued == 8, "TIOCOUTQ says what the peer has not read");
    close(100);
    close(copy);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    srand(1);
    pair(wait_for_everything, answer);
    pair(listen_in_a_set, connect_twice);
    pair(forking_server, echo_client);
    pair(preforked_server, many_clients);
    pair(shared_end, both_speak);
    pair(child_keeps_it, parent_gone);
    pair(killed_server, survive);
    pair(bells, dup_and_close);
    return 0;
}
