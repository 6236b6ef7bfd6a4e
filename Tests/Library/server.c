/* Receives one connection into a file: library-server FILE. Prints "ready PORT". */
#include "check.h"
int main(int count, char **arguments) {
    if (count != 2) return 2;
    int port, listener = new_listener(&port);
    printf("ready %d\n", port);
    fflush(stdout);
    int fd = STPaccept(listener, NULL, NULL);
    FILE *file = fopen(arguments[1], "w");
    static char buffer[65536];
    ssize_t got;
    while ((got = STPrecv(fd, buffer, sizeof buffer, 0)) > 0) fwrite(buffer, 1, (size_t)got, file);
    if (got < 0 || fclose(file) != 0) return 1;
    STPclose(fd);
    return STPclose(listener);
}
