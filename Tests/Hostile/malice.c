/* What the hostile peer does, step by step. Which step comes next the seed decides. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

static void ring_bell(struct peer *peer) { send(peer->bell, NULL, 0, MSG_DONTWAIT | MSG_NOSIGNAL); }

static void drain_bells(struct peer *peer) {
    char byte[8];
    for (int count = 0; count < 8; count++)
        if (recv(peer->bell, byte, sizeof byte, MSG_DONTWAIT) < 0) break;
}

static int kind_of(const char *line) { return (int)(load64(line + PLACEMENT) & 1); }

/* Bytes of a ring are never a canary's, so that the victim can tell a read beside the rings. */
static void fill_ring(struct peer *peer, int kind, uint64_t position, uint64_t count) {
    char *ring = slot_of(peer) + ring_offset(peer->end, kind);
    uint64_t capacity = kind ? LARGE : SMALL;
    for (uint64_t index = 0; index < count; index++) ring[(position + index) & (capacity - 1)] = (char)((position + index) & 0x7f);
}

void be_good(struct peer *peer, uint64_t *dice) {
    char *mine = line_of(peer, peer->end), *theirs = line_of(peer, 1 - peer->end);
    uint64_t tail = load64(mine + TAIL), capacity = kind_of(mine) ? LARGE : SMALL;
    uint64_t unread = tail - load64(theirs + HEAD);
    if (unread < capacity && next_random(dice) % 2) {
        uint64_t count = next_random(dice) % (capacity - unread) % 3000 + 1;
        fill_ring(peer, kind_of(mine), tail, count);
        store64(mine + TAIL, tail + count);
    } else {
        store64(mine + HEAD, load64(theirs + TAIL));
    }
    if (load32(theirs + READ_SLEEPERS) | load32(theirs + WRITE_SLEEPERS)) ring_bell(peer);
    drain_bells(peer);
}

/* A number that cursors are easily wrong about. */
static uint64_t odd_number(struct peer *peer, uint64_t *dice) {
    static const uint64_t steps[] = {0, 1, SMALL - 1, SMALL, SMALL + 1, LARGE - 1, LARGE, LARGE + SMALL, LARGE + SMALL + 1, 2 * LARGE + 1};
    static const uint64_t bases[] = {0, UINT64_MAX, UINT64_MAX >> 1, 1ull << 63, UINT32_MAX};
    uint64_t roll = next_random(dice);
    uint64_t near = load64(line_of(peer, (int)(roll >> 8 & 1)) + (roll >> 9 & 1) * 8);
    uint64_t base = roll % 8 < 5 ? near : bases[roll >> 16 & 3];
    uint64_t step = roll % 16 == 15 ? next_random(dice) : steps[(roll >> 20) % (sizeof steps / sizeof *steps)];
    return roll >> 32 & 1 ? base + step : base - step;
}

/* Any word of either line, or of the pool's header. */
static void scribble_word(struct peer *peer, uint64_t *dice) {
    static const int wide[] = {TAIL, TAIL, HEAD, HEAD, PLACEMENT, URGENT};
    static const int narrow[] = {STATE, READ_SLEEPERS, WRITE_SLEEPERS, PROCESSOR, HINT, RECEIVE_LIMIT};
    uint64_t roll = next_random(dice), value = odd_number(peer, dice);
    char *line = line_of(peer, roll % 4 ? peer->end : 1 - peer->end);
    if (roll >> 8 & 1) {
        int offset = wide[(roll >> 16) % 6];
        store64(line + offset, offset == PLACEMENT ? value << 1 | (roll >> 40 & 1) : value);
    } else if (roll >> 9 & 7) {
        int offset = narrow[(roll >> 16) % 6];
        store32(line + offset, offset == STATE ? (uint32_t)(roll >> 32 & 15) : (uint32_t)(value >> (roll >> 40 & 1 ? 32 : 0)));
    } else {
        store32(peer->pool + (roll >> 16) % 2048, (uint32_t)value);
    }
}

/* Words that change faster than the victim can look twice. */
static void flicker(struct peer *peer, uint64_t *dice) {
    static const int words[] = {TAIL, HINT, STATE, URGENT, PLACEMENT, HEAD};
    char *line = line_of(peer, peer->end);
    int offset = words[next_random(dice) % 6];
    uint64_t first = load64(line + (offset & ~7)), second = odd_number(peer, dice);
    for (int count = 0; count < 20000; count++) {
        if (offset & 7 || offset == STATE || offset == HINT) store32(line + offset, (uint32_t)(count & 1 ? second + (uint64_t)count : first));
        else store64(line + offset, count & 1 ? second : first);
    }
}

static void odd_packet(struct peer *peer, uint64_t *dice) {
    char noise[64];
    memset(noise, 0x41, sizeof noise);
    uint64_t roll = next_random(dice);
    if (roll % 3) {
        for (uint64_t count = roll % 40; count; count--) ring_bell(peer);
    } else if (roll % 2) {
        send(peer->bell, noise, (roll >> 8) % sizeof noise, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        char control[CMSG_SPACE(3 * sizeof(int))] = {0};
        struct iovec vector = {noise, (roll >> 8) % 2};
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(3 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        int copies[3] = {peer->bell, peer->memory, peer->bell};
        memcpy(CMSG_DATA(rights), copies, sizeof copies);
        sendmsg(peer->bell, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

/* Takes the pages of the slot away: they come back as zeros. */
static void punch(struct peer *peer) {
    fallocate(peer->memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, POOL_HEADER + (long)peer->slot * SLOT, 4096);
    memset(slot_of(peer) + 2 * LINE, CANARY, CONTROL - 2 * LINE);
}

int be_bad(struct peer *peer, uint64_t *dice) {
    uint64_t roll = next_random(dice) % 1000;
    if (roll < 700) scribble_word(peer, dice);
    else if (roll < 860) flicker(peer, dice);
    else if (roll < 930) odd_packet(peer, dice);
    else if (roll < 950) memset(line_of(peer, (int)(roll & 1)), (int)next_random(dice), LINE);
    else if (roll < 955) punch(peer);
    else if (roll < 960) shutdown(peer->bell, (int)(next_random(dice) % 3));
    else if (roll < 975) usleep((unsigned)(next_random(dice) % 3000));
    else if (roll < 990) drain_bells(peer);
    else return 0;
    return 1;
}
