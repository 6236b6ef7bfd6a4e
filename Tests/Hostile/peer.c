/* The connection as a stranger speaks it: hello, rings and bells, all by hand. */
#define _GNU_SOURCE
#include "peer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* What lies between the small rings and the large ones, and after the two lines of the control page. */
static const struct { long from, to; } GAPS[] = {{2 * LINE, CONTROL}, {CONTROL + 2 * SMALL, 64 << 10}};

void lay_canaries(const struct peer *peer) {
    for (unsigned gap = 0; gap < 2; gap++) memset(slot_of(peer) + GAPS[gap].from, CANARY, (size_t)(GAPS[gap].to - GAPS[gap].from));
    if (peer->end == 1) return;
    /* Whatever strays before or behind the one slot that is used meets its neighbours. */
    memset(slot_of(peer) - SLOT, CANARY, SLOT);
    memset(slot_of(peer) + SLOT, CANARY, SLOT);
}

static long changed(const char *from, long size) {
    for (long index = 0; index < size; index++)
        if ((unsigned char)from[index] != CANARY) return index;
    return -1;
}

long damage(const struct peer *peer) {
    const char *slot = slot_of(peer);
    struct { long from, size; } parts[4];
    int count = 0;
    for (int gap = 0; gap < 2; gap++) parts[count].from = GAPS[gap].from, parts[count++].size = GAPS[gap].to - GAPS[gap].from;
    if (peer->end == 0) {
        parts[count].from = -SLOT, parts[count++].size = SLOT;
        parts[count].from = SLOT, parts[count++].size = SLOT;
    }
    for (int index = 0; index < count; index++) {
        long place = changed(slot + parts[index].from, parts[index].size);
        if (place >= 0) return slot - peer->pool + parts[index].from + place;
    }
    return -1;
}

struct peer make_pool(void) {
    struct peer peer = {.bell = -1, .slots = 3, .slot = 1, .end = 0};
    long size = POOL_HEADER + 3l * SLOT;
    peer.memory = memfd_create("skein", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (peer.memory < 0 || ftruncate(peer.memory, size)) exit(2);
    fcntl(peer.memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    peer.pool = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, peer.memory, 0);
    if (peer.pool == MAP_FAILED) exit(2);
    lay_canaries(&peer);
    return peer;
}

static socklen_t hidden_name(struct sockaddr_un *address, uint64_t cookie) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int count = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "skein/%d/tcp/%llx", VERSION, (unsigned long long)cookie);
    return (socklen_t)(3 + count);
}

static int send_with_memory(int bell, const void *data, size_t size, int memory) {
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec vector = {(void *)data, size};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(rights), &memory, sizeof memory);
    return sendmsg(bell, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : -1;
}

int say_hello(struct peer *peer, uint64_t cookie, uint16_t port) {
    return say_hello_from(peer, cookie, port, htonl(INADDR_LOOPBACK), htonl(INADDR_LOOPBACK));
}

int say_hello_from(struct peer *peer, uint64_t cookie, uint16_t port, uint32_t client, uint32_t dialled) {
    static uint32_t generation;
    struct sockaddr_un address;
    socklen_t length = hidden_name(&address, cookie);
    peer->bell = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (peer->bell < 0) return -1;
    struct hello hello = {.magic = HELLO_MAGIC, .version = VERSION, .slot = peer->slot, .generation = ++generation};
    hello.dialled = (struct address){.family = AF_INET, .port = port, .high = dialled};
    hello.client = (struct address){.family = AF_INET, .port = 40000, .high = client};
    memset(slot_of(peer), 0, 2 * LINE);
    if (connect(peer->bell, (void *)&address, length) || send_with_memory(peer->bell, &hello, HELLO_SIZE, peer->memory)) {
        close(peer->bell);
        return -1;
    }
    return 0;
}

int hidden_listener(uint64_t cookie) {
    struct sockaddr_un address;
    socklen_t length = hidden_name(&address, cookie);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (void *)&address, length) || listen(listener, 8)) return -1;
    return listener;
}

int meet_client(struct peer *peer, int listener) {
    memset(peer, 0, sizeof *peer);
    peer->bell = peer->memory = -1;
    peer->bell = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer->bell < 0) return -1;
    struct pollfd item = {peer->bell, POLLIN, 0};
    poll(&item, 1, 5000);
    struct hello hello;
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {&hello, sizeof hello};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(peer->bell, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!rights) return close(peer->bell), -1;
    memcpy(&peer->memory, CMSG_DATA(rights), sizeof(int));
    struct stat status;
    fstat(peer->memory, &status);
    peer->pool = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, peer->memory, 0);
    if (peer->pool == MAP_FAILED) exit(2);
    peer->slots = (int)((status.st_size - POOL_HEADER) / SLOT);
    peer->slot = hello.slot;
    peer->end = 1;
    lay_canaries(peer);
    return 0;
}

void part(struct peer *peer) {
    if (peer->bell >= 0) close(peer->bell);
    peer->bell = -1;
    if (peer->end == 1) drop_pool(peer);
}

void drop_pool(struct peer *peer) {
    munmap(peer->pool, POOL_HEADER + (size_t)peer->slots * SLOT);
    close(peer->memory);
}
