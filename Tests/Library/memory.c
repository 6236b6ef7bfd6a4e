/* No memory for rings. */
#include "check.h"
static void accept_one(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    char byte;
    check(STPrecv(fd, &byte, 1, 0) == 1, "the server accepts the one that had memory");
    STPclose(fd);
}
static void no_memory(int port) {
    int fd = new_socket();
    struct rlimit old, limit;
    getrlimit(RLIMIT_AS, &old);
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu", &pages) != 1) abort();
    fclose(file);
    limit = old;
    limit.rlim_cur = pages * 4096 + (1 << 20);  // a connection needs two
    setrlimit(RLIMIT_AS, &limit);
    int result = stp_connect(fd, port);
    int error = errno;
    setrlimit(RLIMIT_AS, &old);
    errno = error;
    check(result < 0 && errno == ENOMEM && STPerror(fd) == STP_EMEMORY, "no memory for rings is ENOMEM");
    check(stp_connect(fd, port) == 0, "and with memory the same socket connects");
    STPsend(fd, "x", 1, 0);
    STPclose(fd);
}
int main(void) {
    pair(accept_one, no_memory);
    return 0;
}
