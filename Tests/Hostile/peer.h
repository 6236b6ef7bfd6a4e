/* The hostile side of one connection: its memory, its Unix socket, and what it does to both. */
#ifndef SKEIN_TEST_PEER_H
#define SKEIN_TEST_PEER_H

#include <stdatomic.h>
#include <stdint.h>

#include "layout.h"

/* Every byte of a ring has its highest bit clear; everything around the rings holds this. */
#define CANARY 0xEE

struct peer {
    int bell;       /* the Unix socket */
    int memory;     /* the pool's memfd */
    char *pool;
    int slots;
    int slot;
    int end;        /* ours: 0 connected, and made the pool; 1 accepted */
};

static inline uint64_t next_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return *state = x;
}

static inline char *slot_of(const struct peer *peer) { return peer->pool + POOL_HEADER + (long)peer->slot * SLOT; }
static inline char *line_of(const struct peer *peer, int end) { return slot_of(peer) + end * LINE; }

static inline uint64_t load64(const void *place) { return atomic_load((const _Atomic uint64_t *)place); }
static inline uint32_t load32(const void *place) { return atomic_load((const _Atomic uint32_t *)place); }
static inline void store64(void *place, uint64_t value) { atomic_store((_Atomic uint64_t *)place, value); }
static inline void store32(void *place, uint32_t value) { atomic_store((_Atomic uint32_t *)place, value); }

/* Seconds of the monotonic clock. */
double now(void);

/* Makes a pool of three slots, of which the one in the middle is used, with canaries around its rings. */
struct peer make_pool(void);
void lay_canaries(const struct peer *peer);
/* Connects to the hidden listener of that cookie and says a good hello; 0 when that went well. */
int say_hello(struct peer *peer, uint64_t cookie, uint16_t port);
/* The same where it dialled one address from another, in network byte order. */
int say_hello_from(struct peer *peer, uint64_t cookie, uint16_t port, uint32_t client, uint32_t dialled);
/* Makes a hidden listener for a TCP listener of that cookie. */
int hidden_listener(uint64_t cookie);
/* Waits for a client on the hidden listener and takes its pool; 0 when one came. */
int meet_client(struct peer *peer, int listener);
/* Closes the connection, and gives up a pool that the other side made. */
void part(struct peer *peer);
/* Gives up a pool of one's own. */
void drop_pool(struct peer *peer);

/* Behaves well for one step: writes a little, reads what came, and rings for sleepers. */
void be_good(struct peer *peer, uint64_t *dice);
/* One step of malice. False when it has ended the connection. */
int be_bad(struct peer *peer, uint64_t *dice);
/* Where the victim wrote outside the rings and its own words; -1 for nowhere. */
long damage(const struct peer *peer);

#endif
