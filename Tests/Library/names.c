/* Making sockets, addresses, ports, and every bad input of theirs. */
#include "check.h"

static int bind_raw(int fd, struct sockaddr_stp *address, socklen_t length) {
    return STPbind(fd, (struct sockaddr *)address, length);
}

static void making(void) {
    int fd = STPsocket(PF_STP, SOCK_STREAM, PF_STP);
    check(fd >= 0, "STPsocket(PF_STP, SOCK_STREAM, PF_STP) gives a descriptor");
    check(STPerror(fd) == STP_ENONE, "a call that succeeds sets no STP code");
    check(fcntl(fd, F_GETFD) == 0, "it is not close-on-exec");
    check(STPclose(fd) == 0 && fcntl(fd, F_GETFD) < 0, "STPclose gives the descriptor back");
    fd = STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_GETFL) & O_NONBLOCK, "AF_STP, protocol 0 and both flags will do");
    close(fd);
    check(STPsocket(PF_STP, SOCK_DGRAM, 0) < 0 && errno == ESOCKTNOSUPPORT && STPerror(-1) == STP_ETYPE, "another type is ESOCKTNOSUPPORT");
    check(STPsocket(PF_STP, SOCK_STREAM, IPPROTO_TCP) < 0 && errno == EPROTONOSUPPORT, "another protocol is EPROTONOSUPPORT");
    check(STPsocket(4711, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT, "a family that nobody has is EAFNOSUPPORT");
    check(strlen(STPstrerror(-1)) > 10, "STPstrerror has a sentence for it");
}

static void binding(void) {
    int fd = new_socket();
    check(port_of(fd) == 0, "an unbound socket has port 0");
    struct sockaddr_stp address;
    socklen_t length = sizeof address;
    check(STPgethostname(fd, (struct sockaddr *)&address, &length) == 0 && address.stp_port >= STP_PORT_FIRST && address.stp_port <= STP_PORT_LAST,
          "STPgethostname assigns a port of the documented range");
    check(length == sizeof address && address.stp_family == AF_STP && strcmp(address.stp_group, "default") == 0 && address.stp_host[0], "and gives group and host");
    int port = address.stp_port;
    check(port_of(fd) == port, "STPgetsockname says the same");
    check(stp_bind(fd, 0) < 0 && errno == EINVAL && STPerror(fd) == STP_ESTATE, "binding twice is EINVAL");
    int other = new_socket();
    check(stp_bind(other, port) < 0 && errno == EADDRINUSE && STPerror(other) == STP_EPORTTAKEN, "a port that STP has is EADDRINUSE");
    STPclose(fd);
    check(stp_bind(other, port) == 0, "a closed socket's port is free at once");
    STPclose(other);
    fd = new_socket();
    check(STPbind(fd, NULL, 0) == 0 && port_of(fd) > 0, "STPbind without an address takes a free port");
    STPclose(fd);

    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    length = sizeof in;
    if (bind(tcp, (struct sockaddr *)&in, sizeof in) || listen(tcp, 1) || getsockname(tcp, (struct sockaddr *)&in, &length)) abort();
    fd = new_socket();
    check(stp_bind(fd, ntohs(in.sin_port)) < 0 && errno == EADDRINUSE, "a port that TCP has is EADDRINUSE");
    close(tcp);
    check(stp_bind(fd, ntohs(in.sin_port)) == 0, "and free once TCP has closed it");
    tcp = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(tcp, (struct sockaddr *)&in, sizeof in) < 0 && errno == EADDRINUSE, "a port that STP has is taken for TCP");
    close(tcp);
    STPclose(fd);

    int one = 1;
    tcp = socket(AF_INET, SOCK_STREAM, 0);
    in.sin_port = 0;
    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(tcp, (struct sockaddr *)&in, sizeof in) || getsockname(tcp, (struct sockaddr *)&in, &length)) abort();
    fd = new_socket();
    STPsetsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    int got = stp_bind(fd, ntohs(in.sin_port)) == 0 && STPlisten(fd, 1) == 0;
    check(got + (listen(tcp, 1) == 0) == 1, "with SO_REUSEADDR on both STP or TCP listens on a port, never both");
    close(tcp);
    STPclose(fd);
}

static void bad_addresses(void) {
    int fd = new_socket();
    struct sockaddr_stp address = address_of(0);
    address.stp_family = AF_INET;
    check(bind_raw(fd, &address, sizeof address) < 0 && errno == EAFNOSUPPORT && STPerror(fd) == STP_EADDRESS, "binding an address of the wrong family is EAFNOSUPPORT");
    check(STPconnect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == EAFNOSUPPORT, "connecting to one too");
    address = address_of(1234);
    check(bind_raw(fd, &address, sizeof address - 1) < 0 && errno == EINVAL && STPerror(fd) == STP_EADDRESS, "an address that is too short is EINVAL");
    check(bind_raw(fd, &address, 0) < 0 && errno == EINVAL, "an empty one too");
    check(STPbind(fd, NULL, sizeof address) < 0 && errno == EFAULT, "a null address with a length is EFAULT");
    memset(address.stp_group, 'x', sizeof address.stp_group);
    check(bind_raw(fd, &address, sizeof address) < 0 && errno == EINVAL, "a group that is not terminated is EINVAL");
    address = address_of(0);
    strcpy(address.stp_group, "elsewhere");
    check(bind_raw(fd, &address, sizeof address) < 0 && errno == EADDRNOTAVAIL && STPerror(fd) == STP_EHOST && strstr(STPstrerror(fd), "SKEIN_GROUP") != NULL, "binding in another group is EADDRNOTAVAIL, and says what to set");
    address.stp_port = 7;
    check(STPconnect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == EHOSTUNREACH && STPerror(fd) == STP_ENOAGENT, "connecting to another group is EHOSTUNREACH, no agent");
    address = address_of(7);
    strcpy(address.stp_host, "no-such-host");
    check(STPconnect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == EHOSTUNREACH && STPerror(fd) == STP_ENOAGENT, "connecting to another host too");
    check(strstr(STPstrerror(fd), "SKEIN_DIR") != NULL, "and STPstrerror says what to check");
    check(stp_connect(fd, 0) < 0 && errno == EADDRNOTAVAIL && STPerror(fd) == STP_EPORT, "port 0 can't be connected to");
    check(stp_connect(fd, 1) < 0 && errno == ECONNREFUSED && STPerror(fd) == STP_ENOLISTENER, "a port without a listener is ECONNREFUSED");
    address = address_of(0);
    strcpy(address.stp_group, "default");
    check(bind_raw(fd, &address, sizeof address) < 0 && errno == EINVAL, "the failed connect has kept its port");
    STPclose(fd);
    fd = new_socket();
    check(bind_raw(fd, &address, sizeof address) == 0, "the own group by name is this one");
    STPclose(fd);
    if (geteuid() == 0) {
        pid_t child = fork();
        if (child == 0) {
            if (setresuid(65534, 65534, 65534)) _exit(1);
            int low = new_socket();
            check(low >= 0, "another user gets sockets too");
            check(stp_bind(low, 81) < 0 && errno == EACCES && STPerror(low) == STP_EPORT, "a port below 1024 is EACCES for a user");
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
}

static void host_names(void) {
    struct sockaddr_stp one, two;
    socklen_t length = sizeof one;
    check(STPgethostbyname("localhost", (struct sockaddr *)&one, &length) == 0 && one.stp_host[0], "STPgethostbyname knows localhost");
    length = sizeof two;
    check(STPgethostbyname(one.stp_host, (struct sockaddr *)&two, &length) == 0 && memcmp(&one, &two, sizeof one) == 0, "and this host by its name");
    check(STPgethostbyname("no-such-host", (struct sockaddr *)&two, &length) < 0 && errno == EHOSTUNREACH && STPerror(-1) == STP_ENOAGENT, "and says of another that no agent knows it");
    check(STPgethostbyname(NULL, (struct sockaddr *)&two, &length) < 0 && errno == EFAULT, "no name is EFAULT");
    length = 4;
    struct sockaddr_stp cut;
    memset(&cut, 1, sizeof cut);
    check(STPgethostbyname("", (struct sockaddr *)&cut, &length) == 0 && length == sizeof cut && cut.stp_port == 0x0101, "a short buffer is filled as far as it goes");
}

/* Calls on sockets that are not STP's. */
static void other_sockets(void) {
    int tcp = STPsocket(AF_INET, SOCK_STREAM, 0);
    check(tcp >= 0, "STPsocket makes a TCP socket where asked to");
    struct sockaddr_in in = {.sin_family = AF_INET};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof in;
    check(STPbind(tcp, (struct sockaddr *)&in, sizeof in) == 0 && STPlisten(tcp, 4) == 0, "STPbind and STPlisten pass to TCP");
    check(STPgetsockname(tcp, (struct sockaddr *)&in, &length) == 0 && in.sin_port != 0, "STPgetsockname too");
    int client = STPsocket(AF_INET, SOCK_STREAM, 0);
    check(STPconnect(client, (struct sockaddr *)&in, sizeof in) == 0, "STPconnect too");
    int server = STPaccept(tcp, NULL, NULL);
    check(server >= 0, "STPaccept too");
    char text[8] = "";
    check(STPsend(client, "four", 4, 0) == 4 && STPrecv(server, text, sizeof text, 0) == 4 && strcmp(text, "four") == 0, "STPsend and STPrecv too");
    struct sockaddr_in peer;
    length = sizeof peer;
    check(STPgetpeername(client, (struct sockaddr *)&peer, &length) == 0 && peer.sin_port == in.sin_port, "STPgetpeername too");
    int one = 1, value = 0;
    length = sizeof value;
    check(STPsetsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) == 0 && STPgetsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &value, &length) == 0 && value == 1,
          "STPsetsockopt and STPgetsockopt too");
    check(STPgethostname(client, (struct sockaddr *)&peer, &length) == 0, "STPgethostname too");
    check(STPshutdown(client, 1) == 0 && STPrecv(server, text, sizeof text, 0) == 0, "STPshutdown too");
    check(STPerror(client) < 0 && errno == EOPNOTSUPP && STPerror(-1) == STP_ENOTSTP, "STPerror refuses a TCP socket");
    check(STPstrerror(client) == NULL && errno == EOPNOTSUPP, "STPstrerror too");
    check(STPgetopt(client, STP_RING, &value, &length) < 0 && errno == EOPNOTSUPP, "STPgetopt too");
    check(STPsetopt(client, STP_RING, &one, sizeof one) < 0 && errno == EOPNOTSUPP, "STPsetopt too");
    check(STPclose(client) == 0 && STPclose(server) == 0 && STPclose(tcp) == 0, "STPclose passes to TCP");
    int pipes[2];
    if (pipe(pipes)) abort();
    check(STPgetopt(pipes[0], STP_RING, &value, &length) < 0 && errno == ENOTSOCK && STPerror(-1) == STP_ENOTSTP, "a pipe is ENOTSOCK");
    check(STPsetopt(-1, STP_RING, &one, sizeof one) < 0 && errno == EBADF, "no descriptor is EBADF");
    check(STPsend(-1, "x", 1, 0) < 0 && errno == EBADF, "and for STPsend");
}

static void states(void) {
    int port;
    int listener = new_listener(&port);
    struct sockaddr_stp address;
    socklen_t length = sizeof address;
    check(STPgetpeername(listener, (struct sockaddr *)&address, &length) < 0 && errno == ENOTCONN, "STPgetpeername without a peer is ENOTCONN");
    check(STPsend(listener, "x", 1, 0) < 0 && errno == ENOTCONN && STPerror(listener) == STP_ESTATE, "STPsend without one too");
    char byte;
    check(STPrecv(listener, &byte, 1, 0) < 0 && errno == ENOTCONN, "STPrecv too");
    check(STPshutdown(listener, 1) < 0 && errno == ENOTCONN, "STPshutdown too");
    check(stp_connect(listener, port) < 0 && errno == EISCONN, "a listener can't connect");
    int plain = new_socket();
    check(STPaccept(plain, NULL, NULL) < 0 && errno == EINVAL, "STPaccept on a socket that does not listen is EINVAL");
    check(STPlisten(plain, 3) == 0 && port_of(plain) >= STP_PORT_FIRST, "STPlisten without an address takes a free port");
    STPclose(plain);
    STPclose(listener);
}

static void descriptor_limit(void) {
    pid_t child = fork();
    if (child == 0) {
        int port;
        int listener = new_listener(&port);
        int value = STP_CONNECT_QUEUED;
        int client = new_socket();
        STPsetopt(client, STP_CONNECT, &value, sizeof value);
        if (stp_connect(client, port)) abort();
        int server = STPaccept(listener, NULL, NULL);
        struct rlimit limit = {80, 80};
        setrlimit(RLIMIT_NOFILE, &limit);
        int last = 0;
        while ((last = new_socket()) >= 0) {}
        check(errno == EMFILE && STPerror(-1) == STP_EDESCRIPTORS, "at the limit of descriptors STPsocket is EMFILE");
        check(strstr(STPstrerror(-1), "close some") != NULL, "and says what to do");
        limit.rlim_cur = limit.rlim_max = 40;
        setrlimit(RLIMIT_NOFILE, &limit);
        check(new_socket() < 0 && errno == EMFILE && STPerror(-1) == STP_ELIMIT && strstr(STPstrerror(-1), "64") != NULL, "with a limit below 64 it says that 64 are needed");
        char text[8] = "";
        check(STPsend(client, "still", 5, 0) == 5 && STPrecv(server, text, sizeof text, 0) == 5, "and a connection that worked still does");
        _exit(0);
    }
    alarm(20);
    int status;
    waitpid(child, &status, 0);
    check(WIFEXITED(status), "the limit harms nobody");
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    making();
    binding();
    bad_addresses();
    host_names();
    other_sockets();
    states();
    descriptor_limit();
    return 0;
}
