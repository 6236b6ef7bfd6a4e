/* No memory for rings. */
#include "check.h"
static void accept_one(int listener) {
    int fd = STPaccept(listener, NULL, NULL);
    char byte;
    check(STPrecv(fd, &byte, 1, 0) == 1, "the server accepts the one that had memory");
    STPclose(fd);
}
static struct rlimit old;
static void leave_a_megabyte(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &old);
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu", &pages) != 1) abort();
    fclose(file);
    limit = old;
    limit.rlim_cur = pages * 4096 + (1 << 20);  // a connection needs two
    setrlimit(RLIMIT_AS, &limit);
}
static void no_memory(int port) {
    int fd = new_socket();
    leave_a_megabyte();
    int result = stp_connect(fd, port);
    int error = errno;
    setrlimit(RLIMIT_AS, &old);
    errno = error;
    check(result < 0 && errno == ENOMEM && STPerror(fd) == STP_EMEMORY, "no memory for rings is ENOMEM");
    check(stp_connect(fd, port) == 0, "and with memory the same socket connects");
    STPsend(fd, "x", 1, 0);
    STPclose(fd);
}
static void accept_without_memory(int listener) {
    leave_a_megabyte();
    int result = STPaccept(listener, NULL, NULL);
    int error = errno;
    setrlimit(RLIMIT_AS, &old);
    errno = error;
    check(result < 0 && errno == ENOMEM && STPerror(listener) == STP_EMEMORY, "accept without memory for rings is ENOMEM");
    accept_one(listener);
}
static void come_twice(int port) {
    int fd = new_socket();
    check(stp_connect(fd, port) < 0, "the client that had no room is not connected");
    STPclose(fd);
    fd = new_socket();
    check(stp_connect(fd, port) == 0, "the next one is");
    STPsend(fd, "x", 1, 0);
    STPclose(fd);
}
int main(void) {
    pair(accept_one, no_memory);
    pair(accept_without_memory, come_twice);
    return 0;
}
