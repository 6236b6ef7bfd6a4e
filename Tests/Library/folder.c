/* library-folder ERRNO CODE SENTENCE: STPsocket fails so. 0 0: it works. "keep": a connection outlives it. */
#include "check.h"
int main(int count, char **arguments) {
    if (count == 3 && strcmp(arguments[1], "keep") == 0) {
        int port, value = STP_CONNECT_QUEUED, listener = new_listener(&port), client = new_socket();
        STPsetopt(client, STP_CONNECT, &value, sizeof value);
        if (stp_connect(client, port)) return 1;
        int fd = STPaccept(listener, NULL, NULL);
        if (system(arguments[2]) != 0) return 1;
        char text[8];
        check(STPsend(client, "works", 5, 0) == 5 && STPrecv(fd, text, 5, MSG_WAITALL) == 5, "a connection that worked still does after: %s", arguments[2]);
        return 0;
    }
    if (count != 4) return 2;
    int wanted = atoi(arguments[1]), code = atoi(arguments[2]);
    int fd = new_socket();
    if (wanted == 0)
        check(fd >= 0, "%s", arguments[3]);
    else
        check(fd < 0 && errno == wanted && STPerror(-1) == code && strlen(STPstrerror(-1)) > 20, "%s: %s", arguments[3], STPstrerror(-1));
    return 0;
}
