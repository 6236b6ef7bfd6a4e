/* STPgivesocket and STPtakesocket. */
#include "check.h"

#include <pthread.h>

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
    check(STPtakesocket(&gift) < 0 && errno == EPERM && STPerror(-1) == STP_ETAKER, "a gift for another process is EPERM");
    if (geteuid() == 0) {
        if (setresuid(65534, 65534, 65534)) abort();
        check(STPtakesocket(&gift) < 0 && errno == EPERM && STPerror(-1) == STP_EUSER, "and for another user, who is told so");
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
    check(STPgivesocket(fd, 0, NULL) < 0 && errno == EFAULT && STPgivesocket(fd, -2, &gift) < 0 && errno == EINVAL && STPerror(fd) == STP_ETAKER, "no place for the token, or no such taker");
    STPclose(fd);
}

/* A giver that is reading or writing at the very moment of the taking: numbered words, of which none may come
   twice or get lost. */
enum { ROUNDS = 30, READ_WORDS = 1 << 18, WRITTEN_AFTER = 500 };
static int answers[2];

static void answer(uint32_t word) {
    if (write(answers[1], &word, sizeof word) != sizeof word) abort();
}
static uint32_t hear(void) {
    uint32_t word;
    if (read(answers[0], &word, sizeof word) != sizeof word) abort();
    return word;
}

/* Threads that have slept on the connection since before it was given: each sees the taking. */
static int watched;
static void *sleep_in_recv(void *all) {
    char text[10];
    return (void *)(intptr_t)(recv(watched, text, sizeof text, all ? MSG_WAITALL : 0) == 0);
}
static void *sleep_in_poll(void *priority) {
    return (void *)(intptr_t)(poll_now(watched, priority ? POLLPRI : POLLIN, -1) == (POLLHUP | (priority ? POLLPRI : POLLIN)));
}
static void *sleep_in_epoll(void *unused) {
    (void)unused;
    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLPRI, {.fd = watched}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, watched, &event);
    int seen = epoll_wait(epoll, &event, 1, -1) == 1 && event.events & EPOLLPRI && event.events & EPOLLHUP;
    close(epoll);
    return (void *)(intptr_t)seen;
}
static const struct sleeper {
    void *(*sleep)(void *);
    void *argument;
    const char *name;
} sleepers[] = {
    {sleep_in_recv, NULL, "recv"}, {sleep_in_recv, &watched, "recv with MSG_WAITALL"}, {sleep_in_poll, NULL, "poll for POLLIN"},
    {sleep_in_poll, &watched, "poll for POLLPRI"}, {sleep_in_epoll, NULL, "epoll_wait"}, {NULL, NULL, NULL}};

static void take_from_sleepers(void) {
    for (const struct sleeper *each = sleepers; each->sleep; each++) {
        struct stp_gift gift = get();
        nap(60);
        int fd = STPtakesocket(&gift);
        /* What the peer sends would wake it too. */
        hear();
        check(fd >= 0 && ask(fd, "mine"), "the taker of a connection that %s sleeps on has it whole", each->name);
        STPclose(fd);
    }
}
static void give_with_sleepers(int port) {
    for (const struct sleeper *each = sleepers; each->sleep; each++) {
        watched = new_socket();
        stp_connect(watched, port);
        pthread_t thread;
        if (pthread_create(&thread, NULL, each->sleep, each->argument)) abort();
        nap(60);
        struct stp_gift gift;
        STPgivesocket(watched, 0, &gift);
        hand_over(&gift);
        void *seen = NULL;
        pthread_join(thread, &seen);
        check(seen != NULL, "%s that slept before the giving sees the taking", each->name);
        answer(1);
        STPclose(watched);
    }
}
static void echo_each(int listener) {
    for (const struct sleeper *each = sleepers; each->sleep; each++) {
        int fd = STPaccept(listener, NULL, NULL);
        char text[4];
        while (STPrecv(fd, text, 4, MSG_WAITALL) == 4)
            if (STPsend(fd, text, 4, MSG_NOSIGNAL) != 4) break;
        STPclose(fd);
    }
}

/* Reads words to the end. Returns how many follow each other from the first one on; that one is at `first`. */
static uint32_t count_words(int fd, uint32_t *first, size_t at_once) {
    static uint32_t words[16384];
    uint32_t count = 0;
    for (ssize_t got; (got = STPrecv(fd, words, at_once * sizeof *words, 0)) > 0;)
        for (size_t index = 0; index < (size_t)got / sizeof *words; index++) {
            if (count == 0) *first = words[index];
            if (words[index] != *first + count) return count;
            count++;
        }
    return count;
}

static void send_words(int listener) {
    static uint32_t words[READ_WORDS];
    for (uint32_t word = 0; word < READ_WORDS; word++) words[word] = word;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = STPaccept(listener, NULL, NULL);
        STPsend(fd, words, sizeof words, 0);
        STPclose(fd);
    }
}
static void take_and_read(void) {
    for (int round = 0; round < ROUNDS; round++) {
        struct stp_gift gift = get();
        nap(rand() % 3);
        uint32_t first = READ_WORDS;
        int fd = STPtakesocket(&gift);
        uint32_t count = count_words(fd, &first, 16384);
        answer(first);
        answer(count);
        STPclose(fd);
    }
}
static void give_while_reading(int port) {
    int whole = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = new_socket();
        stp_connect(fd, port);
        struct stp_gift gift;
        STPgivesocket(fd, 0, &gift);
        hand_over(&gift);
        uint32_t first = 0;
        uint32_t count = count_words(fd, &first, 1);
        STPclose(fd);
        uint32_t next = hear();
        uint32_t rest = hear();
        whole += first == 0 && next == count && count + rest == READ_WORDS;
    }
    check(whole == ROUNDS, "a giver that reads while it is taken from reads nothing twice, and nothing is lost (%d of %d)", whole, ROUNDS);
}

static void count_all(int listener) {
    for (int round = 0; round < ROUNDS; round++) {
        int fd = STPaccept(listener, NULL, NULL);
        uint32_t first = 1;
        answer(count_words(fd, &first, 16384) * (first == 0));
        STPclose(fd);
    }
}
static int turns[2];
static void take_and_write(void) {
    for (int round = 0; round < ROUNDS; round++) {
        struct stp_gift gift = get();
        nap(1 + rand() % 3);
        int fd = STPtakesocket(&gift);
        uint32_t word;
        if (read(turns[0], &word, sizeof word) != sizeof word) abort();
        for (int more = 0; more < WRITTEN_AFTER; more++, word++) STPsend(fd, &word, sizeof word, 0);
        STPclose(fd);
    }
}
static void give_while_writing(int port) {
    int whole = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int fd = new_socket();
        stp_connect(fd, port);
        struct stp_gift gift;
        STPgivesocket(fd, 0, &gift);
        hand_over(&gift);
        uint32_t word = 0;
        while (STPsend(fd, &word, sizeof word, MSG_NOSIGNAL) == sizeof word) word++;
        if (write(turns[1], &word, sizeof word) != sizeof word) abort();
        STPclose(fd);
        whole += hear() == word + WRITTEN_AFTER;
    }
    check(whole == ROUNDS, "nor is a word lost or overwritten where it writes (%d of %d)", whole, ROUNDS);
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    if (pipe(answers) || pipe(turns)) abort();
    taker_pid = start_taker(take_and_use);
    pair(echo, give_and_watch);
    end_taker();
    taker_pid = start_taker(take_from_sleepers);
    pair(echo_each, give_with_sleepers);
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
    taker_pid = start_taker(take_and_read);
    pair(send_words, give_while_reading);
    end_taker();
    taker_pid = start_taker(take_and_write);
    pair(count_all, give_while_writing);
    end_taker();
    pair(echo, bad_gifts);
    return 0;
}
