/*
 * skein.h: STP sockets, for C and C++. Link with -lskein (pkg-config skein).
 *
 * An STP socket is a stream socket whose bytes travel through memory that both processes share. Its
 * descriptor is a real one: read, write, close, dup, fcntl, select, poll and epoll work on it inside a
 * program that links this library, and fork shares it. The calls mean what their BSD namesakes mean,
 * except where it says otherwise here. Each call takes any other socket too and passes it on to the
 * system's own call; the six calls at the end are the exception: they refuse it.
 *
 * Errors: -1 (or NULL), with errno as for sockets, and an STP code beside it, both of the calling
 * thread: STPerror gives the code, STPstrerror a sentence that says what to do. A call that succeeds
 * sets the code to STP_ENONE. Where RLIMIT_NOFILE is below 64 calls that need a descriptor of the
 * library's own fail with EMFILE and the code STP_ELIMIT.
 *
 * When the peer's process dies, at any instruction, reads give the bytes that it sent and then end of
 * file (or ECONNRESET where it left bytes unread), at once. Threads may share a socket. After fork both
 * processes hold every socket; a connection ends when the last of them closes it.
 *
 * Environment: SKEIN_DIR names the runtime folder (default /run/skein); STP sockets of processes
 * that use the same folder in the same network namespace are on one host. (A TCP program under 'skein run'
 * is met by its port, whatever its folder: that is the kernel's, one in a namespace.) SKEIN_GROUP and SKEIN_HOST name the group (default
 * "default") and the host (default: the machine's name). SKEIN_OFF switches STP off.
 */
#ifndef SKEIN_H
#define SKEIN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The family. Above every family that the kernel knows or can come to know soon (AF_MAX is 46): the
 * kernel never sees it. */
#define AF_STP 0x5354
#define PF_STP AF_STP

#define STP_GROUP_SIZE 16
#define STP_HOST_SIZE 32

/* Unbound sockets get a free port of the system's range for that, which is this one unless the
 * administrator has changed net.ipv4.ip_local_port_range. */
#define STP_PORT_FIRST 32768
#define STP_PORT_LAST 60999

/* An STP address. An empty group or host stands for this process's own. STP and TCP have one space of
 * ports: a port that TCP has on this host is taken for STP, and the other way round. */
struct sockaddr_stp {
    sa_family_t stp_family;         /* AF_STP */
    char stp_group[STP_GROUP_SIZE]; /* NUL-terminated */
    char stp_host[STP_HOST_SIZE];   /* NUL-terminated */
    uint16_t stp_port;              /* in host byte order, not htons */
};

/* Takes a socket control block from the socket table and returns a descriptor.
 * domain PF_STP (or AF_STP), type SOCK_STREAM (with SOCK_NONBLOCK, SOCK_CLOEXEC), protocol PF_STP or 0.
 * ESOCKTNOSUPPORT: another type. EPROTONOSUPPORT: another protocol. EMFILE, ENFILE, ENOMEM. EPERM,
 * ENOENT, EACCES, ENOSPC, EROFS: the runtime folder can't be used, see STPstrerror. Another domain is
 * the system's socket(). */
int STPsocket(int domain, int type, int protocol);

/* Gives the socket its local address. A null address or port 0 takes a free port.
 * EAFNOSUPPORT: the family is not AF_STP. EINVAL: the length is wrong, a name is not terminated, or
 * the socket is bound already. EADDRNOTAVAIL: the group or host is not this one. EADDRINUSE: STP or TCP
 * has the port. EACCES: a port below 1024 without the privilege. */
int STPbind(int socket, const struct sockaddr *address, socklen_t length);

/* Takes connections from now on, `backlog` of them waiting at most. A socket without an address gets a
 * free port. Again: changes the backlog. EINVAL: the socket is connected. */
int STPlisten(int socket, int backlog);

/* The connection that has waited longest, as a new socket, with the client's address. EAGAIN: none
 * waits and the socket is non-blocking. EINVAL: not listening. EMFILE: the connection keeps waiting. */
int STPaccept(int socket, struct sockaddr *address, socklen_t *length);

/* Connects, and waits until the server has accepted; with STP_CONNECT set to STP_CONNECT_QUEUED only
 * until the connection is in the server's queue, as TCP does. Where no STP socket listens on the port
 * but a TCP server that runs under skein does, it connects to that one.
 * A non-blocking socket: EINPROGRESS, and writable once accepted (SO_ERROR says how it went); EAGAIN
 * when the queue is full. ECONNREFUSED: nobody listens, or the server closed before accepting.
 * EADDRNOTAVAIL: port 0. EHOSTUNREACH: another group or host, and no agent that knows it. ENETUNREACH,
 * ENETDOWN: the agent is gone, or is no member just now. To another host of the agent's group it returns
 * when that host's agent has connected to the server, which accepts later. EISCONN,
 * EALREADY, EINTR, EAFNOSUPPORT, EINVAL, ENOMEM, EMFILE. EINPROGRESS also where SO_SNDTIMEO passed. */
int STPconnect(int socket, const struct sockaddr *address, socklen_t length);

/* Flags: MSG_DONTWAIT, MSG_OOB, MSG_NOSIGNAL, MSG_DONTROUTE (never leaves this host), MSG_MORE (no effect).
 * EPIPE (with SIGPIPE unless MSG_NOSIGNAL): this side or the peer is closed, or the peer has stopped
 * reading by STPshutdown(…, 0). ECONNRESET, ENOTCONN, EAGAIN. */
ssize_t STPsend(int socket, const void *message, size_t length, int flags);

/* Flags: MSG_PEEK (the bytes stay), MSG_WAITALL, MSG_DONTWAIT, MSG_OOB. 0 at the end. */
ssize_t STPrecv(int socket, void *message, size_t length, int flags);

/* Waits until the peer has read everything or is gone, STP_CLOSE_LIMIT milliseconds at most (also on a
 * non-blocking socket; 0 does not wait), then releases the descriptor and everything behind it.
 * With SO_LINGER on, its seconds are the limit instead; 0 of them reset the connection. With
 * other copies of the descriptor left, here or in other processes, it does not wait; nor with bytes
 * unread on this side, which resets the connection as close() does. Where the limit passed it returns 0
 * with the code STP_EUNREAD; the peer can still read what is left. The plain close() does not wait. */
int STPclose(int socket);

/* how 0: no more is received, and what the peer still sends is refused (it gets EPIPE); 1: no more is
 * sent, the peer reads to the end; 2: both, and everything is released as by STPclose: the descriptor
 * is gone. ENOTCONN, EINVAL. */
int STPshutdown(int socket, int how);

/* The STP address of a host: its name, or "localhost" or "" for this one. EHOSTUNREACH: a host that the
 * agent doesn't know. */
int STPgethostbyname(const char *name, struct sockaddr *address, socklen_t *length);

/* The address of this socket; one without gets a free port. */
int STPgethostname(int socket, struct sockaddr *address, socklen_t *length);

/* The address of this socket (port 0 while it has none), and that of its peer (ENOTCONN). */
int STPgetsockname(int socket, struct sockaddr *address, socklen_t *length);
int STPgetpeername(int socket, struct sockaddr *address, socklen_t *length);

/* Level SOL_SOCKET: SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_PEERCRED (read only),
 * SO_RCVBUF, SO_SNDBUF, SO_RCVTIMEO, SO_SNDTIMEO, SO_LINGER, SO_KEEPALIVE, SO_REUSEADDR, SO_OOBINLINE,
 * SO_RCVLOWAT. A listener's are inherited by what it accepts. */
int STPgetsockopt(int socket, int level, int option, void *value, socklen_t *length);
int STPsetsockopt(int socket, int level, int option, const void *value, socklen_t length);

/* ---- STP only: these refuse any other socket, ENOTSOCK or EOPNOTSUPP with the code STP_ENOTSTP. ---- */

/* The code of this thread's last STP call; -1 as socket where there is none (STPsocket failed). */
int STPerror(int socket);

/* The same as a sentence that says what to do. It is never freed or changed. */
const char *STPstrerror(int socket);

/* Parameters of STP. The value is an int unless noted. ENOPROTOOPT: no such option, or read only.
 * EINVAL: the value or its length. */
int STPgetopt(int socket, int option, void *value, socklen_t *length);
int STPsetopt(int socket, int option, const void *value, socklen_t length);

#define STP_RING 1 /* the ring that this end writes into: */
#define STP_RING_AUTO 0
#define STP_RING_SMALL 1 /* never more than 16 KiB */
#define STP_RING_LARGE 2 /* 1 MiB from the first byte; EISCONN once bytes were sent */
#define STP_SPIN 2       /* of the whole process: how it waits before it sleeps */
#define STP_SPIN_OFF 0
#define STP_SPIN_ADAPTIVE 1
#define STP_SPIN_FIXED 2
#define STP_CONNECT 3 /* when STPconnect returns */
#define STP_CONNECT_ACCEPTED 0
#define STP_CONNECT_QUEUED 1
#define STP_CLOSE_LIMIT 4    /* milliseconds, default 2000 */
#define STP_GIFT_LIMIT 5     /* milliseconds that a gift waits to be taken, default 60000 */
#define STP_CARRIER 6        /* text: the carrier wanted, "any" (default) or "memory" */
#define STP_CARRIER_IN_USE 7 /* text, read only: "memory", or "" before it is connected */
#define STP_BYTES_IN 8       /* uint64_t, read only, and so the next three */
#define STP_BYTES_OUT 9
#define STP_BELLS 10  /* doorbells rung at the peer */
#define STP_SLEEPS 11 /* waits that slept in the kernel */

/* A connection on its way from one process to another: text that the giver hands to the taker by any
 * means (an argument, a pipe, a file). Whoever runs as the same user and has it can take the connection. */
struct stp_gift {
    char token[64];
};

/* Gives a connected socket to process `taker`, or with 0 to whichever process of the same user and host
 * takes it. The giver may go on using it until it has been taken; then select reports an exceptional
 * condition (poll: POLLPRI) on it, reading and writing end, and the giver closes it. The connection and
 * its unread data live on when the giver closes or dies. What nobody takes within STP_GIFT_LIMIT
 * milliseconds is the giver's again, or ends where the giver has closed it.
 * A thread that waits on it without a limit hears of the taking too; that it did costs the connection
 * its doorbells, and later waits on it look every 20 ms.
 * ENOTCONN: not connected. EALREADY: given already. EINVAL: a negative taker. EMFILE, EAGAIN: no
 * descriptor, no process. */
int STPgivesocket(int socket, pid_t taker, struct stp_gift *gift);

/* Takes it: a new descriptor of the same connection, with its options. ENOENT: no such gift, or taken
 * already, or its time is over. EPERM: it is for another process or user. EINVAL: no token. */
int STPtakesocket(const struct stp_gift *gift);

/* The codes of STPerror. */
#define STP_ENONE 0
#define STP_EOFF 1
#define STP_EFOLDER 2
#define STP_EUNSAFE 3
#define STP_EFULL 4
#define STP_EREADONLY 5
#define STP_ENOTSTP 6
#define STP_EADDRESS 7
#define STP_ENOAGENT 8
#define STP_EPORTTAKEN 9
#define STP_EPORT 10
#define STP_ENOLISTENER 11
#define STP_EQUEUE 12
#define STP_ENOTACCEPTED 13
#define STP_EMEMORY 14
#define STP_EDESCRIPTORS 15
#define STP_EUNREAD 16
#define STP_EREFUSED 17
#define STP_EPEERGONE 18
#define STP_EOPTION 19
#define STP_ESTATE 20
#define STP_ETYPE 21
#define STP_EUSER 22
#define STP_ESYSTEM 23
#define STP_EGIFT 24
#define STP_ENAME 25
#define STP_EHOST 26
#define STP_EURGENT 27
#define STP_ELIMIT 28
#define STP_ETAKER 29

#ifdef __cplusplus
}
#endif

#endif
