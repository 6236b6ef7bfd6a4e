/* Moving bytes: flags, shutting down, closing. */
#include "check.h"

#define BULK (24u << 20)
static unsigned char pattern(size_t index) { return (unsigned char)(index * 31 + (index >> 12)); }

static void receive_bulk(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    static unsigned char buffer[100000];
    size_t total = 0, wrong = 0;
    ssize_t count;
    while ((count = total % 3 ? read(fd, buffer, sizeof buffer) : STPrecv(fd, buffer, sizeof buffer, 0)) > 0) {
        for (ssize_t index = 0; index < count; index++) wrong += buffer[index] != pattern(total + (size_t)index);
        total += (size_t)count;
    }
    check(count == 0 && total == BULK && wrong == 0, "24 MiB arrive as they were sent, by STPrecv and read (%zu, %zu wrong)", total, wrong);
    check(write(fd, "done", 4) == 4, "and the other direction is still open");
    STPclose(fd);
}
static void send_bulk(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    static unsigned char buffer[77777];
    size_t total = 0;
    while (total < BULK) {
        size_t piece = sizeof buffer < BULK - total ? sizeof buffer : BULK - total;
        for (size_t index = 0; index < piece; index++) buffer[index] = pattern(total + index);
        ssize_t count = total % 2 ? write(fd, buffer, piece) : STPsend(fd, buffer, piece, 0);
        if (count <= 0) break;
        total += (size_t)count;
    }
    check(STPshutdown(fd, 1) == 0, "STPshutdown 1 ends what this side sends");
    check(STPsend(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "and sending is EPIPE here then");
    char text[8] = "";
    check(STPrecv(fd, text, sizeof text, 0) == 4 && STPrecv(fd, text, sizeof text, 0) == 0, "what the peer sends still arrives, then the end");
    STPclose(fd);
}

static void flags_server(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    char text[64] = "";
    check(STPrecv(fd, text, 5, MSG_PEEK) == 5 && memcmp(text, "first", 5) == 0, "MSG_PEEK gives the bytes");
    memset(text, 0, sizeof text);
    check(STPrecv(fd, text, 5, 0) == 5 && memcmp(text, "first", 5) == 0, "and leaves them");
    check(STPrecv(fd, text, 5, MSG_DONTWAIT) < 0 && errno == EAGAIN, "MSG_DONTWAIT does not wait");
    STPsend(fd, "go", 2, 0);
    check(STPrecv(fd, text, 10, MSG_WAITALL) == 10 && memcmp(text, "0123456789", 10) == 0, "MSG_WAITALL waits for all");
    check(poll_now(fd, POLLPRI, 3000) == POLLPRI, "an urgent byte is POLLPRI");
    char urgent = 0;
    check(STPrecv(fd, &urgent, 1, MSG_OOB) == 1 && urgent == '!', "MSG_OOB receives it");
    check(STPrecv(fd, &urgent, 1, MSG_OOB) < 0 && errno == EINVAL && STPerror(fd) == STP_EURGENT, "once");
    STPsend(fd, "go", 2, 0);
    ssize_t count = STPrecv(fd, text, sizeof text, 0);
    check(count == 5 && memcmp(text, "plain", 5) == 0, "and it is not in the stream");
    STPclose(fd);
}
static void flags_client(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    char text[8];
    check(STPsend(fd, "first", 5, MSG_DONTROUTE) == 5, "MSG_DONTROUTE is taken");
    STPrecv(fd, text, 2, MSG_WAITALL);
    STPsend(fd, "01234", 5, 0);
    nap(50);
    STPsend(fd, "56789", 5, 0);
    STPsend(fd, "!", 1, MSG_OOB);
    STPrecv(fd, text, 2, MSG_WAITALL);
    STPsend(fd, "plain", 5, 0);
    STPclose(fd);
}

static void stop_receiving(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    char text[8];
    STPrecv(fd, text, 5, MSG_WAITALL);
    check(STPshutdown(fd, 0) == 0, "STPshutdown 0 stops what comes in");
    check(STPsend(fd, "go", 2, 0) == 2, "and this side can still send");
    check(STPrecv(fd, text, sizeof text, 0) == 0, "and reads the end");
    nap(300);
    STPclose(fd);
}
static void sends_refused(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    STPsend(fd, "hello", 5, 0);
    char text[8];
    STPrecv(fd, text, 2, MSG_WAITALL);
    check(STPsend(fd, "more", 4, MSG_NOSIGNAL) < 0 && errno == EPIPE && STPerror(fd) == STP_EREFUSED, "what the peer does not want is refused: EPIPE");
    check(write(fd, "more", 4) < 0 && errno == EPIPE, "by write too");
    check(poll_now(fd, POLLOUT, 0) & POLLOUT, "and poll calls it writable, so that one learns of it");
    STPclose(fd);
}
static void stop_a_blocked_writer(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    nap(200);
    STPshutdown(fd, 0);
    nap(300);
    STPclose(fd);
}
static void blocked_writer(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    static char buffer[4 << 20];
    ssize_t count = STPsend(fd, buffer, sizeof buffer, MSG_NOSIGNAL);
    check(count > 0 && count < (ssize_t)sizeof buffer, "a writer that waits for room is woken by the peer's STPshutdown 0 (%zd)", count);
    check(STPsend(fd, buffer, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "and refused then");
}

static void no_signal_server(int listener) { STPclose(STPaccept(listener, NULL, NULL)); nap(100); }
static volatile sig_atomic_t pipes;
static void count_pipe(int signal) { (void)signal; pipes++; }
static void no_signal(int port) {
    signal(SIGPIPE, count_pipe);
    int fd = new_socket();
    stp_connect(fd, port);
    char byte;
    check(STPrecv(fd, &byte, 1, 0) == 0, "a peer that has closed is the end");
    STPsend(fd, "x", 1, MSG_NOSIGNAL);
    check(STPsend(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE && pipes == 0, "MSG_NOSIGNAL: EPIPE without SIGPIPE");
    check(STPsend(fd, "x", 1, 0) < 0 && errno == EPIPE && pipes == 1, "else with it");
}

static void read_late(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    nap(250);
    char text[8] = "";
    check(STPrecv(fd, text, sizeof text, 0) == 4 && memcmp(text, "last", 4) == 0, "what was sent before closing arrives");
    check(STPrecv(fd, text, sizeof text, 0) == 0, "and then the end");
    nap(100);
    STPclose(fd);
}
static void close_waits(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    STPsend(fd, "last", 4, 0);
    double start = now();
    check(STPclose(fd) == 0 && now() - start > 0.15 && now() - start < 1.5, "STPclose waits until the peer has read everything");
    check(STPerror(-1) == STP_ENONE && fcntl(fd, F_GETFD) < 0, "and releases the descriptor");
}
static void close_with_limit(int port) {
    int fd = new_socket(), limit = 60;
    stp_connect(fd, port);
    STPsetopt(fd, STP_CLOSE_LIMIT, &limit, sizeof limit);
    STPsend(fd, "last", 4, 0);
    double start = now();
    check(STPclose(fd) == 0 && now() - start > 0.05 && now() - start < 0.2, "up to STP_CLOSE_LIMIT");
    check(STPerror(-1) == STP_EUNREAD, "and then says that not everything was read");
}
static void close_without_limit(int port) {
    int fd = new_socket(), limit = 0;
    STPsetopt(fd, STP_CLOSE_LIMIT, &limit, sizeof limit);
    stp_connect(fd, port);
    STPsend(fd, "last", 4, 0);
    double start = now();
    check(STPclose(fd) == 0 && now() - start < 0.1, "limit 0 does not wait");
}
static void shut_both(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    STPsend(fd, "last", 4, 0);
    double start = now();
    check(STPshutdown(fd, 2) == 0 && now() - start > 0.15, "STPshutdown 2 waits as STPclose does");
    check(fcntl(fd, F_GETFD) < 0 && errno == EBADF, "and releases the descriptor");
}
static void shut_wrongly(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    check(STPshutdown(fd, 3) < 0 && errno == EINVAL, "another 'how' is EINVAL");
    STPsend(fd, "last", 4, 0);
    STPclose(fd);
}

static void die_while_peer_waits(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    STPsend(fd, "bye", 3, 0);
    nap(200);
    raise(SIGKILL);
}
static void peer_killed(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    char text[8];
    check(STPrecv(fd, text, sizeof text, 0) == 3, "a server that will be killed says something");
    double start = now();
    ssize_t count = STPrecv(fd, text, sizeof text, 0);
    check(count == 0 && now() - start < 1.0, "kill -9 of the peer is the end of file, at once (%zd, %.3f s)", count, now() - start);
}
static void close_killed(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    STPsend(fd, "unread", 6, 0);
    double start = now();
    check(STPclose(fd) == 0 && now() - start < 1.0, "STPclose does not wait for a peer that is killed meanwhile");
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    pair(receive_bulk, send_bulk);
    pair(flags_server, flags_client);
    pair(stop_receiving, sends_refused);
    pair(stop_a_blocked_writer, blocked_writer);
    pair(no_signal_server, no_signal);
    pair(read_late, close_waits);
    pair(read_late, close_with_limit);
    pair(read_late, close_without_limit);
    pair(read_late, shut_both);
    pair(read_late, shut_wrongly);
    pair(die_while_peer_waits, peer_killed);
    pair(die_while_peer_waits, close_killed);
    return 0;
}
