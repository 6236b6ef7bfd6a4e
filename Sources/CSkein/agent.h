/*
 * What `skein agent` has of libskein.so beside skein.h: it stands in for other hosts, as the client of servers here and as
 * the server of clients here. No other program has a use for it, and it may change with every version.
 *
 * The addresses are those of hosts of the group (docs/AGENT.md), of AF_INET or AF_INET6. Connections are non-blocking
 * sockets, closed on exec, on which read, write, shutdown, poll and epoll work. -1 and errno on failure.
 */
#ifndef SKEIN_AGENT_H
#define SKEIN_AGENT_H

#include <sys/socket.h>

/* A non-blocking listener for clients of this host that connect to another host's address: accept() takes them,
 * getsockname() tells what a connection's client dialled, getpeername() its own address. Such a client's connect waits for
 * skein_agent_accepted. ENOENT, EPERM and so on: the runtime folder can't be used. EADDRINUSE: another process listens. */
int skein_agent_listen(int backlog);

/* The other host has accepted: the client's connect is over, and bytes flow. */
int skein_agent_accepted(int connection);

/* The other host has not: once the connection is closed, the client's connect fails with this errno. */
int skein_agent_refuse(int connection, int error);

/* Connects to the server of this host that listens for all addresses on the port of `server`, which is this host's address
 * in the group, in the name of a client of another host. ECONNREFUSED: none does under Skein that believes this process.
 * EAGAIN: its queue is full. ENOMEM, EMFILE. */
int skein_agent_connect(const struct sockaddr *server, const struct sockaddr *client, socklen_t length);

#endif
