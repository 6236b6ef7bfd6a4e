"""The direct call path: a request takes no memory from the system, whoever answers it."""

import mmap
import random
import struct

import nbd
from harness import compile_c, test
from server import Scratch, image, server, sparse

# Counts what the server asks of malloc and its like, where the test can see it.
COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
static unsigned long spare, *count = &spare;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("ALLOCATIONS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory = file < 0 ? MAP_FAILED : mmap(0, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory != MAP_FAILED) count = memory;
    if (file >= 0) close(file);
}

static void note(void) { __atomic_fetch_add(count, 1, __ATOMIC_RELAXED); }
void *malloc(size_t size) { note(); return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { note(); return __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { note(); return __libc_realloc(p, size); }
void *memalign(size_t a, size_t size) { note(); return __libc_memalign(a, size); }
void *aligned_alloc(size_t a, size_t size) { note(); return __libc_memalign(a, size); }
int posix_memalign(void **p, size_t a, size_t size) { note(); *p = __libc_memalign(a, size); return *p ? 0 : ENOMEM; }
"""


class Counted:
    """A server whose allocations are counted."""

    def __init__(self, folder, *devices):
        self.path = folder / "allocations"
        self.path.write_bytes(bytes(8))
        library = compile_c(folder / "counter.so", "-shared", "-fPIC", "-O2", "-w", source=COUNTER)
        self.running = server(folder, *devices, options=["--workers", "1"],
                              prefix=["env", f"LD_PRELOAD={library}", f"ALLOCATIONS={self.path}"])

    def __enter__(self):
        running = self.running.__enter__()
        with open(self.path, "rb") as file:
            memory = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
        running.allocations = lambda: struct.unpack("<Q", memory[:8])[0]
        return running

    def __exit__(self, *error):
        return self.running.__exit__(*error)


def batch(client, source, size, count):
    """Requests of every kind that has a reply of its own, several at once."""
    for _ in range(count):
        cookies = []
        for _ in range(16):
            offset, length = source.randrange(size - 8192), source.choice((512, 4096, 8192))
            command = source.choice((nbd.READ, nbd.READ, nbd.WRITE, nbd.FLUSH))
            if command == nbd.FLUSH:
                offset = length = 0
            client.request(command, offset, length, payload=bytes(length) if command == nbd.WRITE else b"")
            cookies.append((client.cookie, length if command == nbd.READ else 0))
        if client.style == nbd.SIMPLE:
            lengths = dict(cookies)
            while lengths:
                magic, error, cookie = struct.unpack(">IIQ", client.take(16))
                assert error == 0
                client.take(lengths.pop(cookie))
        else:
            left = len(cookies)
            while left:
                left -= client.chunk().flags & nbd.DONE


def test_of(what, make, most=0):
    """`most`: what may be allocated where requests wait, which is kept for the next."""
    @test(f"allocation: {'little' if most else 'none'} in thousands of requests: {what}")
    def _(folder):
        size = 1 << 20
        with Scratch(prefix="skein-export-", dir="/dev/shm") as scratch, Counted(folder, f"disk={make(folder, scratch)}") as running:
            for style in ("simple", "structured", "extended"):
                with running.client() as client:
                    if style != "simple":
                        getattr(client, style)()
                    client.go("disk")
                    source = random.Random(1)
                    batch(client, source, size, 100)
                    before = running.allocations()
                    assert before > 0, "allocations are counted"
                    batch(client, source, size, 300)
                    grown = running.allocations() - before
                    assert grown <= most, f"{style}: {grown} allocations"


test_of("memory", lambda folder, scratch: "memory:1M")
test_of("a file on tmpfs", lambda folder, scratch: image(scratch))
test_of("a file on disk, whose writes helpers answer", lambda folder, scratch: image(folder), most=200)
test_of("stripes over files on tmpfs",
        lambda folder, scratch: f"stripe:{image(scratch, name='one')},{sparse(scratch, 1 << 20, name='two')}")
