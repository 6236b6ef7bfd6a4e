/*
 * Streams between two agents, by their control sockets (docs/AGENT.md): the first agent's programs connect to host b.
 *
 *   streams ping A B COUNT        round trips of 64 bytes on one stream: median and 99th percentile in nanoseconds
 *   streams bulk A B SECONDS      one stream in one direction: bytes that arrived, and nanoseconds that it took
 *
 * A and B are paths of control sockets.
 */
#include <err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { message_size = 64, largest_body = 1 << 16, port = 9 };
enum type { type_connect = 1, type_listen, type_accept, type_ready, type_refused, type_data, type_end };

struct header {
    uint8_t type;
    uint8_t zeros[3];
    uint32_t length;
};

struct frame {
    struct header header;
    char body[largest_body];
};

/* One stream, and where each end's frames are made. */
static int client, server;
static struct frame client_room, server_room;
static atomic_bool is_over;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void put(int agent, struct frame *frame, enum type type, uint32_t length)
{
    frame->header = (struct header){.type = (uint8_t)type, .length = length};
    size_t size = sizeof frame->header + length;
    for (size_t done = 0; done < size;) {
        ssize_t count = write(agent, (char *)frame + done, size - done);
        if (count <= 0)
            err(1, "an agent takes nothing");
        done += (size_t)count;
    }
}

static void get_bytes(int agent, void *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = read(agent, (char *)to + done, size - done);
        if (count <= 0)
            errx(1, "an agent has closed");
        done += (size_t)count;
    }
}

static enum type get(int agent, struct frame *frame)
{
    get_bytes(agent, &frame->header, sizeof frame->header);
    get_bytes(agent, frame->body, frame->header.length);
    return (enum type)frame->header.type;
}

static void expect(int agent, struct frame *frame, enum type wanted)
{
    enum type type = get(agent, frame);
    if (type != wanted)
        errx(1, "a frame of type %d came, not of type %d", type, wanted);
}

/* A connection to an agent, after its first frame. */
static int ask(const char *path, enum type type, const void *body, uint32_t length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int agent = socket(AF_UNIX, SOCK_STREAM, 0);
    if (agent < 0 || connect(agent, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "%s", path);
    memcpy(client_room.body, body, length);
    put(agent, &client_room, type, length);
    return agent;
}

static void open_stream(const char *first, const char *second)
{
    static const uint8_t number[2] = {port, 0};
    int listener = ask(second, type_listen, number, sizeof number);
    expect(listener, &client_room, type_ready);
    client = ask(first, type_connect, "b:9", 3);
    server = ask(second, type_accept, number, sizeof number);
    expect(server, &server_room, type_ready);
    expect(client, &client_room, type_ready);
    close(listener);
}

static void *echo(void *unused)
{
    while (get(server, &server_room) == type_data)
        put(server, &server_room, type_data, server_room.header.length);
    return unused;
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return (a > b) - (a < b);
}

static void ping(size_t count)
{
    pthread_t answerer;
    uint64_t *times = calloc(count, sizeof *times);
    if (count == 0 || !times || pthread_create(&answerer, NULL, echo, NULL) != 0)
        errx(1, "no round trips");
    for (size_t index = 0; index < count; index++) {
        uint64_t start = now();
        put(client, &client_room, type_data, message_size);
        expect(client, &client_room, type_data);
        times[index] = now() - start;
    }
    put(client, &client_room, type_end, 0);
    pthread_join(answerer, NULL);
    qsort(times, count, sizeof *times, compare);
    printf("%llu %llu\n", (unsigned long long)times[count / 2], (unsigned long long)times[count * 99 / 100]);
}

static void *flood(void *unused)
{
    while (!atomic_load(&is_over))
        put(client, &client_room, type_data, largest_body);
    put(client, &client_room, type_end, 0);
    return unused;
}

/* Counts from the first byte on; what is under way when the time is over still counts. */
static void bulk(double seconds)
{
    pthread_t sender;
    if (pthread_create(&sender, NULL, flood, NULL) != 0)
        errx(1, "no stream");
    uint64_t start = 0, bytes = 0;
    while (get(server, &server_room) == type_data) {
        if (start == 0)
            start = now();
        bytes += server_room.header.length;
        if ((double)(now() - start) >= seconds * 1e9)
            atomic_store(&is_over, 1);
    }
    printf("%llu %llu\n", (unsigned long long)bytes, (unsigned long long)(now() - start));
    pthread_join(sender, NULL);
}

int main(int count, char **words)
{
    if (count != 5)
        errx(2, "streams ping A B COUNT | streams bulk A B SECONDS");
    open_stream(words[2], words[3]);
    if (strcmp(words[1], "ping") == 0)
        ping(strtoul(words[4], NULL, 10));
    else
        bulk(strtod(words[4], NULL));
    return 0;
}
