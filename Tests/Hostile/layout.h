/* What a peer shares with its victim, as Sources/SkeinCore/Layout.swift and Handshake.swift have it: this test
   speaks the protocol without any of the library's code. */
#ifndef SKEIN_TEST_LAYOUT_H
#define SKEIN_TEST_LAYOUT_H

#include <stdint.h>

enum {
    VERSION = 1,
    LINE = 128,
    CONTROL = 4096,
    SMALL = 16 << 10,
    LARGE = 1 << 20,
    SLOT = (64 << 10) + 2 * LARGE,
    POOL_HEADER = 4096,
};

/* Words of an end's line. */
enum {
    TAIL = 0, HEAD = 8, PLACEMENT = 16, STATE = 24, READ_SLEEPERS = 28, WRITE_SLEEPERS = 32, PROCESSOR = 36,
    HINT = 40, RECEIVE_LIMIT = 44, URGENT = 48,
};

enum { FINISHED = 1, RESET = 2, READ_SHUT = 4, ACCEPTED = 8 };

struct address {
    uint16_t family, port;
    uint64_t high, low;
    uint32_t scope;
};

struct hello {
    uint32_t magic, version;
    int32_t slot;
    uint32_t generation;
    struct address dialled, client;
};
#define HELLO_MAGIC 0x4e494b53u
/* Swift leaves out the padding at the end. */
#define HELLO_SIZE (sizeof(struct hello) - 4)

static inline long ring_offset(int end, int kind) {
    return kind ? (64 << 10) + (long)end * LARGE : CONTROL + (long)end * SMALL;
}

#endif
