/* Connecting and accepting. */
#include "check.h"

static void accept_late(int listener) {
    nap(200);
    struct sockaddr_stp peer;
    socklen_t length = sizeof peer;
    int fd = STPaccept(listener, (struct sockaddr *)&peer, &length);
    check(fd >= 0 && length == sizeof peer && peer.stp_family == AF_STP && peer.stp_port >= STP_PORT_FIRST, "STPaccept gives the client's STP address");
    struct sockaddr_stp again;
    length = sizeof again;
    check(STPgetpeername(fd, (struct sockaddr *)&again, &length) == 0 && memcmp(&again, &peer, sizeof peer) == 0, "STPgetpeername gives the same");
    check(port_of(fd) == port_of(listener), "the accepted socket has the listener's port");
    char text[64];
    ssize_t count = STPrecv(fd, text, sizeof text, MSG_WAITALL);
    check(count == 6 && memcmp(text, "queued", 6) == 0, "what was sent while queued arrives");
    STPclose(fd);
}
static void connect_waits(int port) {
    double start = now();
    int fd = new_socket();
    check(stp_connect(fd, port) == 0 && now() - start > 0.1, "STPconnect waits until the server has accepted");
    struct sockaddr_stp peer;
    socklen_t length = sizeof peer;
    check(STPgetpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.stp_port == port, "the peer's address is the one dialled");
    check(stp_connect(fd, port) < 0 && errno == EISCONN && STPerror(fd) == STP_ESTATE, "connecting again is EISCONN");
    check(STPlisten(fd, 1) < 0 && errno == EINVAL && stp_bind(fd, 0) < 0 && errno == EINVAL, "a connected socket can neither listen nor be bound");
    STPsend(fd, "queued", 6, 0);
    STPclose(fd);
}
static void connect_returns_queued(int port) {
    double start = now();
    int fd = new_socket();
    int value = STP_CONNECT_QUEUED;
    check(STPsetopt(fd, STP_CONNECT, &value, sizeof value) == 0 && stp_connect(fd, port) == 0 && now() - start < 0.15, "STP_CONNECT_QUEUED: it returns when queued");
    check(STPsend(fd, "queued", 6, 0) == 6, "and can be written to");
    STPclose(fd);
}
static void connect_non_blocking(int port) {
    int fd = STPsocket(PF_STP, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLOUT | EPOLLET, {.u64 = 77}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    check(stp_connect(fd, port) < 0 && errno == EINPROGRESS, "a non-blocking connect is EINPROGRESS");
    check(stp_connect(fd, port) < 0 && errno == EALREADY, "and EALREADY until accepted");
    check(STPsend(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EAGAIN, "and not writable yet");
    check(poll_now(fd, POLLOUT | POLLIN, 20) == 0, "poll says nothing before the server accepts");
    struct epoll_event got;
    check(epoll_wait(epoll, &got, 1, 3000) == 1 && got.events == EPOLLOUT && got.data.u64 == 77, "epoll, registered before, reports it once accepted");
    check(poll_now(fd, POLLOUT, 0) == POLLOUT, "poll too");
    int error = -1;
    socklen_t length = sizeof error;
    check(STPgetsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0, "SO_ERROR is 0 then");
    check(STPsend(fd, "queued", 6, 0) == 6, "and it can be written to");
    STPclose(fd);
}

/* First come, first accepted; the backlog. */
static void accept_in_order(int listener) {
    nap(300);
    for (char number = 0; number < 5; number++) {
        int fd = STPaccept(listener, NULL, NULL);
        char got = -1;
        if (STPrecv(fd, &got, 1, 0) != 1 || got != number) check(0, "the connection that came as %d is accepted as %d", got, number);
        STPclose(fd);
    }
    check(1, "first come, first accepted");
    check(fcntl(listener, F_SETFL, O_NONBLOCK) == 0 && STPaccept(listener, NULL, NULL) < 0 && errno == EAGAIN, "an empty queue is EAGAIN for a non-blocking listener");
    check(poll_now(listener, POLLIN, 0) == 0, "and not readable");
}
static void come_in_order(int port) {
    int fds[5];
    int value = STP_CONNECT_QUEUED;
    for (char number = 0; number < 5; number++) {
        fds[(int)number] = new_socket();
        STPsetopt(fds[(int)number], STP_CONNECT, &value, sizeof value);
        if (stp_connect(fds[(int)number], port)) check(0, "five can wait");
        STPsend(fds[(int)number], &number, 1, 0);
    }
    for (int number = 0; number < 5; number++) STPclose(fds[number]);
}

static void small_backlog(int listener) {
    STPlisten(listener, 1);
    nap(500);
    int served = 0;
    for (; served < 3; served++) STPclose(STPaccept(listener, NULL, NULL));
    check(served == 3, "a full queue is worked off");
}
static void overfill(int port) {
    nap(100);
    int queued = 0, value = STP_CONNECT_QUEUED, fd = -1;
    for (;; queued++) {
        fd = STPsocket(PF_STP, SOCK_STREAM | SOCK_NONBLOCK, 0);
        STPsetopt(fd, STP_CONNECT, &value, sizeof value);
        if (stp_connect(fd, port) != 0) break;
    }
    check(errno == EAGAIN && STPerror(fd) == STP_EQUEUE, "a full queue is EAGAIN for a non-blocking client");
    check(queued == 2, "the backlog is honoured (TCP's rule: one more than it says; %d)", queued);
    fcntl(fd, F_SETFL, 0);
    double start = now();
    check(stp_connect(fd, port) == 0 && now() - start > 0.1, "a blocking client waits for room, with the same socket");
}

static void close_unaccepted(int listener) {
    nap(150);
    STPclose(listener);
}
static void be_refused(int port) {
    int fd = new_socket();
    check(stp_connect(fd, port) < 0 && errno == ECONNREFUSED && STPerror(fd) == STP_ENOTACCEPTED, "a listener that closes before it accepts is ECONNREFUSED");
    STPclose(fd);
    fd = new_socket();
    check(stp_connect(fd, port) < 0 && errno == ECONNREFUSED && STPerror(fd) == STP_ENOLISTENER, "and nobody listens there any more");
    STPclose(fd);
}
static void be_refused_later(int port) {
    int fd = STPsocket(PF_STP, SOCK_STREAM | SOCK_NONBLOCK, 0);
    stp_connect(fd, port);
    check(poll_now(fd, POLLOUT, 3000) == (POLLOUT | POLLERR | POLLHUP), "the same, non-blocking: poll reports it");
    int error = 0;
    socklen_t length = sizeof error;
    check(STPgetsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == ECONNREFUSED, "SO_ERROR is ECONNREFUSED");
}

static volatile sig_atomic_t rang;
static void ring(int signal) { (void)signal; rang = 1; }
static void accept_after_a_second(int listener) {
    nap(700);
    int fd = STPaccept(listener, NULL, NULL);
    char byte;
    check(STPrecv(fd, &byte, 1, 0) == 1, "the interrupted connection works in the end");
    STPclose(fd);
}
static void interrupted(int port) {
    struct sigaction action = {.sa_handler = ring};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 0}, {0, 100000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    int fd = new_socket();
    check(stp_connect(fd, port) < 0 && errno == EINTR && rang, "a signal interrupts STPconnect: EINTR");
    check(STPsend(fd, "x", 1, 0) < 0 && errno == ENOTCONN, "it is not connected yet then");
    check(stp_connect(fd, port) == 0, "calling it again waits for the same connection");
    STPsend(fd, "x", 1, 0);
    STPclose(fd);
}
static void times_out(int port) {
    int fd = new_socket();
    struct timeval limit = {0, 100000};
    STPsetsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    check(stp_connect(fd, port) < 0 && errno == EINPROGRESS, "SO_SNDTIMEO limits the wait: EINPROGRESS");
    check(poll_now(fd, POLLOUT, 3000) == POLLOUT, "and poll tells when it is accepted");
    STPsend(fd, "x", 1, 0);
    STPclose(fd);
}

static void never_accept(int listener) { (void)listener; nap(400); raise(SIGKILL); }
static void server_killed(int port) {
    int fd = new_socket();
    check(stp_connect(fd, port) < 0 && errno == ECONNREFUSED, "a server that is killed before it accepts is ECONNREFUSED");
}

static void accept_with_timeout(int listener) {
    struct timeval limit = {0, 50000};
    STPsetsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    check(STPaccept(listener, NULL, NULL) < 0 && errno == EAGAIN, "SO_RCVTIMEO limits STPaccept");
    limit.tv_usec = 0;
    STPsetsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int fd = accept(listener, NULL, NULL);
    struct sockaddr_stp name;
    socklen_t length = sizeof name;
    check(fd >= 0 && getpeername(fd, (struct sockaddr *)&name, &length) == 0 && name.stp_family == AF_STP, "plain accept and getpeername work on an STP listener too");
    close(fd);
}
static void connect_after(int port) {
    nap(150);
    int fd = new_socket(), copy = dup(fd);
    check(stp_bind(fd, 0) == 0 && stp_connect(fd, port) == 0, "a socket with a port of its own connects");
    check(STPsend(copy, "x", 1, 0) == 1, "a copy made before is connected with it");
    STPclose(fd);
    STPclose(copy);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    pair(accept_late, connect_waits);
    pair(accept_late, connect_returns_queued);
    pair(accept_late, connect_non_blocking);
    pair(accept_in_order, come_in_order);
    pair(small_backlog, overfill);
    pair(close_unaccepted, be_refused);
    pair(close_unaccepted, be_refused_later);
    pair(accept_after_a_second, interrupted);
    pair(accept_after_a_second, times_out);
    pair(never_accept, server_killed);
    pair(accept_with_timeout, connect_after);
    return 0;
}
