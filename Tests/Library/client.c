/* library-client PORT FILE sends a file; library-client PORT -e asks a line-based echo server. The exit
 * status is the STP code. */
#include "check.h"
int main(int count, char **arguments) {
    if (count != 3) return 99;
    int fd = new_socket();
    if (fd < 0 || stp_connect(fd, atoi(arguments[1])) != 0) {
        fprintf(stderr, "%s (%s)\n", STPstrerror(-1), strerror(errno));
        return STPerror(-1) ? STPerror(-1) : 98;
    }
    static char buffer[50000];
    if (strcmp(arguments[2], "-e") == 0) {
        char answer[64] = "";
        STPsend(fd, "question\n", 9, 0);
        if (STPrecv(fd, answer, 9, MSG_WAITALL) != 9) return 97;
        printf("%s", answer);
        return STPclose(fd);
    }
    FILE *file = fopen(arguments[2], "r");
    size_t got;
    while (file && (got = fread(buffer, 1, sizeof buffer, file)) > 0)
        if (STPsend(fd, buffer, got, 0) != (ssize_t)got) return 96;
    return STPclose(fd);
}
