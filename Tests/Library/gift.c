/* STPgivesocket and STPtakesocket. */
#include "check.h"

static int gifts[2];

static void hand_over(struct stp_gift *gift) {
    if (write(gifts[1], gift, sizeof *gift) != sizeof *gift) abort();
}
static struct stp_gift get(void) {
    struct stp_gift gift;
    if (read(gifts[0], &gift, sizeof gift) != sizeof gift) abort();
    return gift;
}

/* A taker that was a process of its own before anybody used STP. */
static pid_t start_taker(void (*taker)(void)) {
    if (pipe(gifts)) abort();
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        taker();
        _exit(0);
    }
    return child;
}
static pid_t taker_pid;
static void end_taker(void) {
    waitpid(taker_pid, NULL, 0);
    close(gifts[0]);
    close(gifts[1]);
}

/* The peer: echoes lines of four bytes. */
static void echo(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    char text[4];
    STPsend(fd, "past", 4, 0);
    while (STPrecv(fd, text, 4, MSG_WAITALL) == 4)
        if (STPsend(fd, text, 4, MSG_NOSIGNAL) != 4) break;
    STPclose(fd);
}
static int ask(int fd, const char *text) {
    char back[4];
    return STPsend(fd, text, 4, MSG_NOSIGNAL) == 4 && STPrecv(fd, back, 4, MSG_WAITALL) == 4 && memcmp(back, text, 4) == 0;
}

static void take_and_use(void) {
    struct stp_gift gift = get();
    nap(150);
    int fd = STPtakesocket(&gift);
    check(fd >= 0, "STPtakesocket gives a descriptor");
    char text[8] = "";
    check(STPrecv(fd, text, 4, MSG_WAITALL) == 4 && memcmp(text, "past", 4) == 0, "the unread data came with it");
    check(ask(fd, "1234"), "and it works");
    struct sockaddr_stp name;
    socklen_t length = sizeof name;
    check(STPgetpeername(fd, (struct sockaddr *)&name, &length) == 0 && name.stp_port >= 1024, "it knows its peer");
    struct stp_gift again = gift;
    check(STPtakesocket(&again) < 0 && errno == ENOENT && STPerror(-1) == STP_EGIFT, "a gift can be taken once");
    size_t got = 0;
    for (int round = 0; round < 20; round++) got += (size_t)ask(fd, "bulk");
    check(got == 20, "twenty more questions are answered");
    STPclose(fd);
}
static void give_and_watch(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    nap(50);
    struct stp_gift gift;
    check(STPgivesocket(fd, taker_pid, &gift) == 0 && strlen(gift.token) == 32, "STPgivesocket names the taker and gives a token");
    check(STPgivesocket(fd, 0, &gift) < 0 && errno == EALREADY, "giving it twice is EALREADY");
    hand_over(&gift);
    fd_set except;
    FD_ZERO(&except);
    FD_SET(fd, &except);
    struct timeval limit = {3, 0};
    double start = now();
    check(select(fd + 1, NULL, NULL, &except, &limit) == 1 && FD_ISSET(fd, &except) && now() - start > 0.08, "select reports an exceptional condition once it is taken");
    char byte;
    check(STPrecv(fd, &byte, 1, 0) == 0 && STPsend(fd, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE, "the giver can neither read nor write then");
    start = now();
    check(STPclose(fd) == 0 && now() - start < 0.5, "it closes");
    int status;
    check(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD, "and has no child that it did not make");
}

static void take_from_the_dead(void) {
    struct stp_gift gift = get();
    nap(200);
    int fd = STPtakesocket(&gift);
    check(fd >= 0 && ask(fd, "past"), "a gift survives the giver's kill -9");
    STPclose(fd);
}
static void give_and_die(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    char text[4];
    STPrecv(fd, text, 4, MSG_WAITALL);
    struct stp_gift gift;
    STPgivesocket(fd, 0, &gift);
    check(ask(fd, "mine"), "the giver goes on until it is taken");
    hand_over(&gift);
    raise(SIGKILL);
}

/* The accepting side gives. */
static void accept_and_give(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    struct stp_gift gift;
    check(STPgivesocket(fd, 0, &gift) == 0, "an accepted connection can be given too");
    hand_over(&gift);
    STPclose(fd);
    STPclose(listener);
    nap(400);
}
static void take_server(void) {
    struct stp_gift gift = get();
    int fd = STPtakesocket(&gift);
    char text[4];
    check(fd >= 0 && STPrecv(fd, text, 4, MSG_WAITALL) == 4 && STPsend(fd, text, 4, 0) == 4, "and taken");
    STPclose(fd);
}
static void ask_once(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    nap(50);
    check(ask(fd, "quid"), "the peer does not notice");
    char byte;
    check(STPrecv(fd, &byte, 1, 0) == 0, "but the end, when the taker closes");
}

static void take_too_late(void) {
    struct stp_gift gift = get();
    nap(400);
    check(STPtakesocket(&gift) < 0 && errno == ENOENT && STPerror(-1) == STP_EGIFT, "a gift whose time is over is ENOENT");
}
static void give_for_a_moment(int port) {
    int fd = new_socket(), limit = 150;
    stp_connect(fd, port);
    STPsetopt(fd, STP_GIFT_LIMIT, &limit, sizeof limit);
    char text[4];
    STPrecv(fd, text, 4, MSG_WAITALL);
    struct stp_gift gift;
    STPgivesocket(fd, 0, &gift);
    hand_over(&gift);
    nap(450);
    check(ask(fd, "back"), "STP_GIFT_LIMIT: what nobody took is the giver's again");
    check(STPgivesocket(fd, 0, &gift) == 0, "and can be given again");
    STPclose(fd);
}

static void take_what_is_not_mine(void) {
    struct stp_gift gift = get();
    check(STPtakesocket(&gift) < 0 && errno == EPERM && STPerror(-1) == STP_EUSER, "a gift for another process is EPERM");
    if (geteuid() == 0) {
        if (setresuid(65534, 65534, 65534)) abort();
        check(STPtakesocket(&gift) < 0 && errno == EPERM, "and for another user");
    }
}
static void give_to_myself(int port) {
    int fd = new_socket();
    stp_connect(fd, port);
    struct stp_gift gift;
    check(STPgivesocket(fd, getpid(), &gift) == 0, "a gift may name the giver itself");
    hand_over(&gift);
    nap(300);
    int taken = STPtakesocket(&gift);
    char text[4];
    check(taken >= 0 && taken != fd && STPrecv(taken, text, 4, MSG_WAITALL) == 4 && ask(taken, "self"), "which takes it when others could not");
    STPclose(fd);
    check(ask(taken, "self"), "and closing the old descriptor harms nothing");
    STPclose(taken);
}

static void bad_gifts(int port) {
    struct stp_gift gift = {"not a token"};
    check(STPtakesocket(&gift) < 0 && errno == EINVAL && STPerror(-1) == STP_EGIFT, "what is no token is EINVAL");
    memset(gift.token, 'a', sizeof gift.token);
    check(STPtakesocket(&gift) < 0 && errno == EINVAL, "one without an end too");
    gift.token[32] = 0;
    check(STPtakesocket(&gift) < 0 && errno == ENOENT, "one that nobody gave is ENOENT");
    check(STPtakesocket(NULL) < 0 && errno == EFAULT, "none is EFAULT");
    int tcp = socket(AF_INET, SOCK_STREAM, 0), fd = new_socket();
    check(STPgivesocket(tcp, 0, &gift) < 0 && errno == EOPNOTSUPP && STPerror(-1) == STP_ENOTSTP, "STPgivesocket refuses a TCP socket");
    check(STPgivesocket(fd, 0, &gift) < 0 && errno == ENOTCONN, "and one that is not connected");
    stp_connect(fd, port);
    check(STPgivesocket(fd, 0, NULL) < 0 && errno == EFAULT && STPgivesocket(fd, -2, &gift) < 0 && errno == EINVAL, "no place for the token, or no such taker");
    STPclose(fd);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    taker_pid = start_taker(take_and_use);
    pair(echo, give_and_watch);
    end_taker();
    taker_pid = start_taker(take_from_the_dead);
    pair(echo, give_and_die);
    end_taker();
    taker_pid = start_taker(take_server);
    pair(accept_and_give, ask_once);
    end_taker();
    taker_pid = start_taker(take_too_late);
    pair(echo, give_for_a_moment);
    end_taker();
    taker_pid = start_taker(take_what_is_not_mine);
    pair(echo, give_to_myself);
    end_taker();
    pair(echo, bad_gifts);
    return 0;
}
