/* A scripted session over one connection: small and large transfers both ways, a child that shares the server's
   end, a half-close, a close. Runs under the preload library, in which one side may be killed at any store.

   session serve [once]   serves one client after the other; prints its port, then a line for each session
   session call           reads lines "PORT TAG" and has a session for each; prints a line for each

   A line is "TAG whole", or "TAG end" where the other side was gone early. A tag is of 8 bytes; one that begins with
   'c' and a number makes the server's child be killed at that store. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TAG = 8, SMALL = 100, LARGE = 300000, SHARED = 10 };

static char bytes[LARGE];

/* Whether all of it came through. */
static int send_all(int fd, size_t size) {
    memset(bytes, 'x', size);
    for (size_t done = 0; done < size;) {
        ssize_t count = send(fd, bytes + done, size - done, MSG_NOSIGNAL);
        if (count <= 0) return 0;
        done += (size_t)count;
    }
    return 1;
}

static int receive_all(int fd, char *target, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t count = recv(fd, target + done, size - done, 0);
        if (count <= 0) return 0;
        done += (size_t)count;
    }
    return 1;
}

static int ends(int fd) {
    char byte;
    return recv(fd, &byte, 1, 0) == 0;
}

/* A child takes a part of the session, and may be killed in it. */
static int share(int fd, const char *tag, int listener) {
    pid_t child = fork();
    if (child == 0) {
        close(listener);
        if (tag[0] == 'c') setenv("SKEIN_CRASH_AT", tag + 1, 1);
        else unsetenv("SKEIN_CRASH_AT");
        int good = receive_all(fd, bytes, SHARED) && send_all(fd, SHARED);
        close(fd);
        unsetenv("SKEIN_CRASH_AT");
        _exit(good ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status == 0;
}

static int serve_one(int fd, char *tag, int listener) {
    int whole = receive_all(fd, tag, TAG) && receive_all(fd, bytes, SMALL) && send_all(fd, SMALL) && receive_all(fd, bytes, LARGE)
                && send_all(fd, LARGE) && share(fd, tag, listener);
    if (whole) whole = shutdown(fd, SHUT_WR) == 0 && ends(fd);
    close(fd);
    return whole;
}

static int serve(int once) {
    struct sockaddr_in address = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, length) || listen(listener, 16) || getsockname(listener, (void *)&address, &length)) return 2;
    printf("ready %d\n", ntohs(address.sin_port));
    for (;;) {
        fflush(stdout);
        char tag[TAG + 1] = "?";
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) continue;
        int whole = serve_one(fd, tag, listener);
        printf("%s %s\n", tag, whole ? "whole" : "end");
        if (once) return fflush(stdout), 0;
    }
}

static int call_one(int port, const char *tag) {
    struct sockaddr_in address = {AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int whole = connect(fd, (void *)&address, sizeof address) == 0 && send(fd, tag, TAG, MSG_NOSIGNAL) == TAG && send_all(fd, SMALL)
                && receive_all(fd, bytes, SMALL) && send_all(fd, LARGE) && receive_all(fd, bytes, LARGE) && send_all(fd, SHARED)
                && receive_all(fd, bytes, SHARED) && ends(fd);
    close(fd);
    return whole;
}

static int call(void) {
    int port;
    char tag[TAG + 1];
    while (scanf("%d %8s", &port, tag) == 2) {
        printf("%s %s\n", tag, call_one(port, tag) ? "whole" : "end");
        fflush(stdout);
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "serve") == 0) return serve(count > 2);
    return count == 2 && strcmp(arguments[1], "call") == 0 ? call() : 2;
}
