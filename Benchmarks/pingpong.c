/*
 * Blocking ping-pong of 64 bytes, and 'connect, one request, close', over TCP or a Unix stream socket.
 *
 *   pingpong server ADDRESS                  until killed; one connection after the other
 *   pingpong ping ADDRESS COUNT              round trips on one connection
 *   pingpong connect ADDRESS COUNT           a connection for each round trip
 *
 * ADDRESS is a port of 127.0.0.1, or a path (with a slash) of a Unix socket. A client prints the median,
 * the 99th percentile and the mean of its round trips in nanoseconds.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { message_size = 64 };

union address {
    struct sockaddr any;
    struct sockaddr_in tcp;
    struct sockaddr_un path;
};

static socklen_t parse(const char *text, union address *address)
{
    memset(address, 0, sizeof *address);
    if (strchr(text, '/')) {
        address->path.sun_family = AF_UNIX;
        strncpy(address->path.sun_path, text, sizeof address->path.sun_path - 1);
        return sizeof address->path;
    }
    address->tcp.sin_family = AF_INET;
    address->tcp.sin_port = htons((unsigned short)atoi(text));
    address->tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof address->tcp;
}

static int new_socket(const union address *address)
{
    int descriptor = socket(address->any.sa_family, SOCK_STREAM, 0);
    if (descriptor < 0)
        err(1, "socket");
    return descriptor;
}

/* As every program that cares for latency does; an error only says that it is a Unix socket. */
static void no_delay(int descriptor)
{
    int on = 1;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* 0 at the end of the stream. */
static int receive(int descriptor, char *message)
{
    for (size_t have = 0; have < message_size;) {
        ssize_t got = read(descriptor, message + have, message_size - have);
        if (got < 0)
            err(1, "read");
        if (got == 0)
            return 0;
        have += (size_t)got;
    }
    return 1;
}

static void transmit(int descriptor, const char *message)
{
    if (write(descriptor, message, message_size) != message_size)
        err(1, "write");
}

static void serve(const union address *address, socklen_t length)
{
    char message[message_size];
    int on = 1, listener = new_socket(address);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, &address->any, length) || listen(listener, 128))
        err(1, "bind");
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            err(1, "accept");
        no_delay(connection);
        while (receive(connection, message))
            transmit(connection, message);
        close(connection);
    }
}

static int new_connection(const union address *address, socklen_t length)
{
    int connection = new_socket(address);
    if (connect(connection, &address->any, length))
        err(1, "connect");
    no_delay(connection);
    return connection;
}

static void round_trip(int connection, unsigned number)
{
    char sent[message_size], received[message_size];
    memset(sent, (int)(number & 0xff), sizeof sent);
    transmit(connection, sent);
    if (!receive(connection, received) || memcmp(sent, received, sizeof sent))
        errx(1, "round trip %u came back changed or not at all", number);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const union address *address, socklen_t length, unsigned count, int connect_each_time)
{
    double *times = calloc(count, sizeof *times);
    if (!times)
        err(1, "calloc");
    int kept = connect_each_time ? -1 : new_connection(address, length);
    double start = now(), before = start;
    for (unsigned number = 0; number < count; number++) {
        int connection = connect_each_time ? new_connection(address, length) : kept;
        round_trip(connection, number);
        if (connect_each_time)
            close(connection);
        double after = now();
        times[number] = after - before;
        before = after;
    }
    double mean = (before - start) / count;
    qsort(times, count, sizeof *times, ascending);
    printf("%.0f %.0f %.0f %.0f\n", times[count / 2], times[(size_t)count * 99 / 100], times[(size_t)count * 999 / 1000], mean);
    free(times);
}

int main(int argc, char **argv)
{
    union address address;
    const char *mode = argc > 2 ? argv[1] : "";
    socklen_t length = argc > 2 ? parse(argv[2], &address) : 0;
    unsigned count = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;

    if (!strcmp(mode, "server"))
        serve(&address, length);
    else if (count && (!strcmp(mode, "ping") || !strcmp(mode, "connect")))
        measure(&address, length, count, !strcmp(mode, "connect"));
    else
        errx(2, "usage: pingpong server ADDRESS | pingpong ping|connect ADDRESS COUNT");
    return 0;
}
