/* attacker client COOKIE PORT SEED SECONDS   attacks a server
   attacker server SEED SECONDS               attacks whoever connects; prints the port
   Ends with 0, or with 3 where the victim wrote beside its rings. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "peer.h"

static void attack(struct peer *peer, uint64_t *dice) {
    uint64_t roll = next_random(dice);
    int good = (int)(roll % 10);
    double end = now() + (double)(roll >> 8 & 1023) / 50000;
    while (now() < end) {
        if ((int)(next_random(dice) % 10) < good) be_good(peer, dice);
        else if (!be_bad(peer, dice)) break;
    }
}

/* A hello that is nearly right, or none at all. */
static void odd_hello(struct peer *peer, uint64_t cookie, uint64_t *dice) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int count = snprintf(address.sun_path + 1, 100, "skein/%d/tcp/%llx", VERSION, (unsigned long long)cookie);
    int bell = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bell < 0 || connect(bell, (void *)&address, (socklen_t)(3 + count))) return (void)close(bell);
    uint64_t noise[24];
    for (int index = 0; index < 24; index++) noise[index] = next_random(dice);
    uint64_t roll = next_random(dice);
    struct hello *hello = (void *)noise;
    if (roll & 1) hello->magic = HELLO_MAGIC, hello->version = VERSION;
    char control[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct iovec vector = {noise, roll & 2 ? HELLO_SIZE : (roll >> 8) % sizeof noise};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    int copies[3] = {peer->memory, bell, peer->memory}, sent = (int)(roll >> 32 & 3);
    if (sent) {
        message.msg_control = control, message.msg_controllen = CMSG_SPACE((unsigned)sent * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN((unsigned)sent * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(rights), copies, (unsigned)sent * sizeof(int));
    }
    sendmsg(bell, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (roll >> 40 & 1) usleep(1000);
    close(bell);
}

static void fail_if_damaged(const struct peer *peer) {
    long place = damage(peer);
    if (place < 0) return;
    printf("the victim wrote at offset %ld of the pool, beside its rings\n", place);
    exit(3);
}

static long attack_server(uint64_t cookie, uint16_t port, uint64_t dice, double end) {
    long rounds = 0;
    while (now() < end) {
        struct peer peer = make_pool();
        for (int use = 0; use < 3; use++) {
            if (next_random(&dice) % 4 == 0) odd_hello(&peer, cookie, &dice);
            if (say_hello(&peer, cookie, port)) {
                usleep(200);
                continue;
            }
            attack(&peer, &dice);
            part(&peer);
            rounds++;
        }
        fail_if_damaged(&peer);
        drop_pool(&peer);
    }
    return rounds;
}

static long attack_clients(uint64_t dice, double end) {
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    socklen_t length = sizeof address;
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    uint64_t cookie = 0;
    if (bind(tcp, (void *)&address, length) || listen(tcp, 64) || getsockname(tcp, (void *)&address, &length)) exit(2);
    length = sizeof cookie;
    if (getsockopt(tcp, SOL_SOCKET, SO_COOKIE, &cookie, &length)) exit(2);
    int hidden = hidden_listener(cookie);
    if (hidden < 0) exit(2);
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    long rounds = 0;
    while (now() < end) {
        struct pollfd items[2] = {{hidden, POLLIN, 0}, {tcp, POLLIN, 0}};
        poll(items, 2, 20);
        if (items[1].revents) close(accept(tcp, NULL, NULL));
        struct peer peer;
        if (!items[0].revents || meet_client(&peer, hidden)) continue;
        attack(&peer, &dice);
        fail_if_damaged(&peer);
        part(&peer);
        rounds++;
    }
    return rounds;
}

int main(int count, char **arguments) {
    int attacks_server = count == 6 && strcmp(arguments[1], "client") == 0;
    if (!attacks_server && count != 4) return 2;
    uint64_t dice = strtoull(arguments[count - 2], NULL, 10) * 0x9e3779b97f4a7c15ull | 1;
    double end = now() + atof(arguments[count - 1]);
    long rounds = attacks_server
                      ? attack_server(strtoull(arguments[2], NULL, 16), (uint16_t)atoi(arguments[3]), dice, end)
                      : attack_clients(dice, end);
    printf("%ld connections\n", rounds);
    return 0;
}
