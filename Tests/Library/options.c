/* Socket options and STP's parameters, each by its effect. */
#include "check.h"

static int get(int fd, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    return STPgetopt(fd, option, &value, &length) == 0 && length == sizeof value ? value : -1;
}
static uint64_t counter(int fd, int option) {
    uint64_t value = 0;
    socklen_t length = sizeof value;
    return STPgetopt(fd, option, &value, &length) == 0 ? value : UINT64_MAX;
}
static int set(int fd, int option, int value) { return STPsetopt(fd, option, &value, sizeof value); }
static int sock(int fd, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    return STPgetsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}
static int set_sock(int fd, int option, int value) { return STPsetsockopt(fd, SOL_SOCKET, option, &value, sizeof value); }

/* What one end can write before its peer reads. */
static size_t room(int fd) {
    static char buffer[65536];
    size_t total = 0;
    ssize_t count;
    while ((count = STPsend(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0) total += (size_t)count;
    return total;
}

static void hold(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    STPsend(fd, "a", 1, 0);
    char byte[8];
    while (STPrecv(fd, byte, 1, MSG_PEEK) > 0 && poll_now(fd, POLLRDHUP, 5000) == 0) {}
    STPclose(fd);
}

static void before_connecting(void) {
    int fd = new_socket();
    check(sock(fd, SO_TYPE) == SOCK_STREAM && sock(fd, SO_DOMAIN) == AF_STP && sock(fd, SO_PROTOCOL) == PF_STP, "SO_TYPE, SO_DOMAIN and SO_PROTOCOL are STP's");
    check(sock(fd, SO_ACCEPTCONN) == 0 && STPlisten(fd, 1) == 0 && sock(fd, SO_ACCEPTCONN) == 1, "SO_ACCEPTCONN is 1 for a listener");
    check(sock(fd, SO_ERROR) == 0, "SO_ERROR is 0");
    int value;
    socklen_t length = sizeof value;
    check(STPgetsockopt(fd, IPPROTO_TCP, 1, &value, &length) < 0 && errno == ENOPROTOOPT && STPerror(fd) == STP_EOPTION, "another level is ENOPROTOOPT");
    check(STPsetsockopt(fd, IPPROTO_TCP, 1, &value, sizeof value) < 0 && errno == ENOPROTOOPT, "for STPsetsockopt too");
    length = (socklen_t)-1;
    check(STPgetsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length) < 0 && errno == EINVAL && STPerror(fd) == STP_EOPTION, "a negative length is EINVAL");
    length = (socklen_t)-1;
    check(STPgetopt(fd, STP_RING, &value, &length) < 0 && errno == EINVAL && STPerror(fd) == STP_EOPTION, "for STPgetopt too");
    check(STPsetsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) < 0 && errno == EINVAL && STPerror(fd) == STP_EOPTION, "a value that is too short is EINVAL, and no state");
    STPclose(fd);

    fd = new_socket();
    check(get(fd, STP_RING) == STP_RING_AUTO && get(fd, STP_CONNECT) == STP_CONNECT_ACCEPTED && get(fd, STP_CLOSE_LIMIT) == 2000 && get(fd, STP_GIFT_LIMIT) == 60000,
          "STPgetopt gives the defaults");
    char text[16] = "";
    length = sizeof text;
    check(STPgetopt(fd, STP_CARRIER, text, &length) == 0 && strcmp(text, "any") == 0, "any carrier is wanted");
    length = sizeof text;
    check(STPgetopt(fd, STP_CARRIER_IN_USE, text, &length) == 0 && text[0] == 0, "and none in use");
    check(STPsetopt(fd, STP_CARRIER, "memory", 6) == 0, "memory can be asked for");
    length = sizeof text;
    check(STPgetopt(fd, STP_CARRIER, text, &length) == 0 && strcmp(text, "memory") == 0, "and is given back");
    check(STPsetopt(fd, STP_CARRIER, "pigeon", 6) < 0 && errno == EINVAL && STPerror(fd) == STP_EOPTION, "an unknown carrier is EINVAL");
    check(STPsetopt(fd, STP_CARRIER_IN_USE, "memory", 6) < 0 && errno == ENOPROTOOPT, "what is in use can't be set");
    check(set(fd, STP_RING, 3) < 0 && errno == EINVAL && set(fd, STP_SPIN, 3) < 0 && errno == EINVAL && set(fd, STP_CONNECT, -1) < 0 && errno == EINVAL && set(fd, STP_CLOSE_LIMIT, -1) < 0 && errno == EINVAL,
          "values out of range are EINVAL");
    check(set(fd, 99, 0) < 0 && errno == ENOPROTOOPT && get(fd, 99) < 0 && errno == ENOPROTOOPT, "an unknown option is ENOPROTOOPT");
    check(STPsetopt(fd, STP_RING, text, 2) < 0 && errno == EINVAL, "a value that is too short is EINVAL");
    check(STPsetopt(fd, STP_RING, NULL, 4) < 0 && errno == EFAULT, "no value is EFAULT");
    STPclose(fd);

    int port, listener = new_listener(&port);
    fd = new_socket();
    set_sock(fd, SO_REUSEADDR, 1);
    check(sock(fd, SO_REUSEADDR) == 1 && stp_bind(fd, port) < 0 && errno == EADDRINUSE, "SO_REUSEADDR does not share a port that somebody has");
    STPclose(fd);
    STPclose(listener);
}

static void rings(int port) {
    int fd = new_socket();
    set(fd, STP_RING, STP_RING_SMALL);
    stp_connect(fd, port);
    size_t size = room(fd);
    check(size == 16 << 10, "STP_RING_SMALL: 16 KiB can be written ahead (%zu)", size);
    check(get(fd, STP_RING) == STP_RING_SMALL, "and STPgetopt says so");
    set(fd, STP_RING, STP_RING_AUTO);
    size = room(fd);
    check(size == 1 << 20 || size == 0, "set to auto later it may grow (%zu)", size);
    int zero = 0;
    STPsetopt(fd, STP_CLOSE_LIMIT, &zero, sizeof zero);
    STPclose(fd);
}
static void rings_auto(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    size_t size = room(fd);
    check(size >= 1 << 20, "STP_RING_AUTO: at least 1 MiB (%zu)", size);
    check(set(fd, STP_RING, STP_RING_LARGE) < 0 && errno == EISCONN && STPerror(-1) == STP_ESTATE && get(fd, STP_RING) == STP_RING_AUTO,
          "STP_RING_LARGE comes too late once bytes were sent: EISCONN");
    set(fd, STP_CLOSE_LIMIT, 0);
    STPclose(fd);
}
static void rings_large(int port) {
    int fd = new_socket();
    set(fd, STP_RING, STP_RING_LARGE);
    stp_connect(fd, port);
    size_t size = room(fd);
    check(size == 1 << 20, "STP_RING_LARGE: 1 MiB from the first byte (%zu)", size);
    set(fd, STP_CLOSE_LIMIT, 0);
    STPclose(fd);
}

static void wait_unread(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    nap(1500);
    STPclose(fd);
}

static void linger_with_time(int port) {
    int fd = new_socket();
    struct linger linger = {1, 1};
    stp_connect(fd, port);
    set(fd, STP_CLOSE_LIMIT, 0);
    check(STPsetsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0 && STPsend(fd, "x", 1, 0) == 1, "SO_LINGER takes a time");
    double start = now();
    int result = STPclose(fd);
    check(now() - start > 0.9 && result == 0 && STPerror(-1) == STP_EUNREAD, "and it is STPclose's limit: STP_CLOSE_LIMIT is for sockets without");
}
static void linger_server(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    char byte;
    STPrecv(fd, &byte, 1, 0);
    nap(100);
    check(STPrecv(fd, &byte, 1, 0) < 0 && errno == ECONNRESET && STPerror(fd) == STP_EPEERGONE, "SO_LINGER with 0 seconds resets the connection");
}
static void linger_client(int port) {
    int fd = new_socket();
    struct linger linger = {1, 0}, back = {0, 7};
    STPsetsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    stp_connect(fd, port);
    socklen_t length = sizeof back;
    check(STPgetsockopt(fd, SOL_SOCKET, SO_LINGER, &back, &length) == 0 && back.l_onoff == 1 && back.l_linger == 0, "SO_LINGER set before connecting holds after");
    STPsend(fd, "x", 1, 0);
    nap(50);
    double start = now();
    STPclose(fd);
    check(now() - start < 0.5, "and STPclose does not wait then");
}

static void quiet(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    nap(700);
    STPclose(fd);
}
static void socket_options(int port) {
    int fd = new_socket();
    struct timeval limit = {0, 60000}, back = {0, 0};
    STPsetsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    stp_connect(fd, port);
    double start = now();
    char byte;
    check(STPrecv(fd, &byte, 1, 0) < 0 && errno == EAGAIN && now() - start > 0.05 && now() - start < 0.4, "SO_RCVTIMEO limits STPrecv");
    socklen_t length = sizeof back;
    check(STPgetsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &back, &length) == 0 && back.tv_usec == 60000, "and can be read back");
    STPsetsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    room(fd);
    start = now();
    check(STPsend(fd, "x", 1, 0) < 0 && errno == EAGAIN && now() - start > 0.05 && now() - start < 0.4, "SO_SNDTIMEO limits STPsend");
    check(set_sock(fd, SO_RCVBUF, 10000) == 0 && sock(fd, SO_RCVBUF) == 20000, "SO_RCVBUF is kept as TCP keeps it");
    check(set_sock(fd, SO_SNDBUF, 10000) == 0 && sock(fd, SO_SNDBUF) == 20000, "SO_SNDBUF too");
    check(set_sock(fd, SO_KEEPALIVE, 5) == 0 && sock(fd, SO_KEEPALIVE) == 1, "SO_KEEPALIVE is taken");
    check(sock(fd, SO_TYPE) == SOCK_STREAM && sock(fd, SO_DOMAIN) == AF_STP && sock(fd, SO_ACCEPTCONN) == 0, "SO_TYPE, SO_DOMAIN and SO_ACCEPTCONN of a connection");
    struct { pid_t pid; uid_t uid; gid_t gid; } peer = {0, 1, 1};
    length = sizeof peer;
    check(STPgetsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0 && peer.pid != getpid() && peer.uid == geteuid(), "SO_PEERCRED says who the peer is");
    char text[16] = "";
    length = sizeof text;
    check(STPgetopt(fd, STP_CARRIER_IN_USE, text, &length) == 0 && strcmp(text, "memory") == 0, "the carrier in use is memory");
    length = 3;
    check(STPgetopt(fd, STP_CARRIER_IN_USE, text, &length) < 0 && errno == EINVAL, "a buffer that is too small is EINVAL");
    set(fd, STP_CLOSE_LIMIT, 0);
    STPclose(fd);
}

static void reads_little(int listener) {
    set_sock(listener, SO_RCVBUF, 10000);
    quiet(listener);
}
static void buffer_sizes(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    size_t size = room(fd);
    check(size > 0 && size <= 20000, "the peer's SO_RCVBUF bounds what may be unread (%zu bytes)", size);
    set(fd, STP_CLOSE_LIMIT, 0);
    STPclose(fd);
}
static void own_size(int port) {
    int fd = new_socket();
    set_sock(fd, SO_SNDBUF, 3000);
    stp_connect(fd, port);
    size_t size = room(fd);
    check(size > 0 && size <= 6000, "so does SO_SNDBUF (%zu bytes)", size);
    set(fd, STP_CLOSE_LIMIT, 0);
    STPclose(fd);
}

static void inline_server(int listener) {
    int one = 1;
    STPsetsockopt(listener, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
    int fd = STPaccept(listener, NULL, NULL);
    check(sock(fd, SO_OOBINLINE) == 1, "a listener's options are inherited");
    nap(100);
    char text[8] = "";
    ssize_t first = STPrecv(fd, text, sizeof text, 0);
    ssize_t second = STPrecv(fd, text + first, sizeof text - (size_t)first, 0);
    check(first + second == 3 && memcmp(text, "ab!", 3) == 0, "SO_OOBINLINE: the urgent byte is in the stream");
    STPclose(fd);
}
static void inline_client(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    STPsend(fd, "ab", 2, 0);
    STPsend(fd, "!", 1, MSG_OOB);
    STPclose(fd);
}

static void pong(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    char byte;
    for (int round = 0; STPrecv(fd, &byte, 1, 0) == 1; round++) {
        if (round >= 100) nap(1);
        STPsend(fd, &byte, 1, 0);
    }
    STPclose(fd);
}
static void count(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    char byte = 'x';
    for (int round = 0; round < 100; round++) {
        STPsend(fd, &byte, 1, 0);
        STPrecv(fd, &byte, 1, 0);
    }
    check(counter(fd, STP_BYTES_OUT) == 100 && counter(fd, STP_BYTES_IN) == 100, "STP_BYTES_IN and STP_BYTES_OUT count");
    uint64_t before = counter(fd, STP_SLEEPS);
    check(set(fd, STP_SPIN, STP_SPIN_OFF) == 0 && get(fd, STP_SPIN) == STP_SPIN_OFF, "STP_SPIN can be set");
    for (int round = 0; round < 100; round++) {
        nap(1);
        STPsend(fd, &byte, 1, 0);
        STPrecv(fd, &byte, 1, 0);
    }
    uint64_t off = counter(fd, STP_SLEEPS) - before;
    check(off >= 90, "without spinning nearly every wait sleeps: STP_SLEEPS counts (%d of 100)", (int)off);
    check(counter(fd, STP_BELLS) >= 50, "and a peer that sleeps gets its bell: STP_BELLS counts (%d)", (int)counter(fd, STP_BELLS));
    /* Spinning uses processor time where sleeping uses none: seen over waits that time out. */
    struct timeval limit = {0, 1000};
    struct timespec from, to;
    STPsetsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    double used[2];
    for (int way = 0; way < 2; way++) {
        set(fd, STP_SPIN, way == 0 ? STP_SPIN_OFF : STP_SPIN_FIXED);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        for (int round = 0; round < 100; round++) STPrecv(fd, &byte, 1, 0);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        used[way] = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    }
    check(used[1] > used[0], "STP_SPIN_FIXED spends processor time before it sleeps, STP_SPIN_OFF none (%.1f and %.1f ms)", used[1] * 1e3, used[0] * 1e3);
    uint64_t value;
    socklen_t length = 4;
    check(STPgetopt(fd, STP_BYTES_IN, &value, &length) < 0 && errno == EINVAL, "a counter needs eight bytes");
    STPclose(fd);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    before_connecting();
    pair(hold, rings);
    pair(hold, rings_auto);
    pair(hold, rings_large);
    pair(linger_server, linger_client);
    pair(wait_unread, linger_with_time);
    pair(quiet, socket_options);
    pair(reads_little, buffer_sizes);
    pair(quiet, own_size);
    pair(inline_server, inline_client);
    pair(pong, count);
    return 0;
}
