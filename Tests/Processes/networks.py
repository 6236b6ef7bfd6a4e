"""Network namespaces and addresses: a connection goes where TCP would have taken it, and to nobody else."""

import ctypes
import errno
import fcntl
import os
import pathlib
import socket
import struct
import subprocess

from cases import WATCHDOG, case, expect, in_memory, not_here
from hellos import SKEIN

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
LO = 1
libc = ctypes.CDLL(None, use_errno=True)


def enter_new_network():
    """This process is in a network of its own, with nothing but loopback, from now on."""
    kinds = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(kinds) != 0:
        not_here(f"no namespaces: {os.strerror(ctypes.get_errno())}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


def add_address6(address, prefix):
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
            packed = socket.inet_pton(socket.AF_INET6, address) + struct.pack("Ii", prefix, LO)
            fcntl.ioctl(any_socket, 0x8916, packed)  # SIOCSIFADDR
    except OSError as error:
        not_here(f"no IPv6: {error}")


def family(address):
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def outcome(address, prepare=lambda client: None):
    """What becomes of a client's connect: where it goes through, "memory" or "TCP", else the error's name."""
    with socket.socket(family(address)) as client:
        client.settimeout(WATCHDOG)
        prepare(client)
        try:
            client.connect(address)
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))
        return "memory" if in_memory(client) else "TCP"


def dual_listener():
    return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


@case("an address of another host is not this host's because the kernel lets sockets bind it")
def nonlocal_bind():
    enter_new_network()
    for version in ("ipv4", "ipv6"):
        try:
            pathlib.Path(f"/proc/sys/net/{version}/ip_nonlocal_bind").write_text("1")
        except OSError as error:
            not_here(f"ip_nonlocal_bind can't be set: {error}")
    with dual_listener() as listener:
        port = listener.getsockname()[1]
        expect(outcome(("127.0.0.1", port)), "memory")
        for elsewhere in ("192.0.2.77", "::ffff:192.0.2.77", "2001:db8::77"):
            with socket.socket(family((elsewhere,))) as probe:
                probe.bind((elsewhere, 0))
            expect(outcome((elsewhere, port)), "ENETUNREACH", elsewhere)


@case("TCP connects to no broadcast and no multicast address, and to IPv4 by no socket that is for IPv6 alone")
def nobody():
    enter_new_network()
    with dual_listener() as listener:
        port = listener.getsockname()[1]
        for address in ("224.0.0.1", "255.255.255.255", "127.255.255.255", "ff02::1"):
            expect(outcome((address, port)), "ENETUNREACH", address)
        expect(outcome(("ff02::1", port, 0, LO)), "ENETUNREACH")

        def for_ipv6(client):
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

        expect(outcome(("::ffff:127.0.0.1", port)), "memory")
        expect(outcome(("::ffff:127.0.0.1", port), for_ipv6), "ENETUNREACH")


@case("a link-local address keeps its interface at both ends, and is nobody's without one")
def link_local():
    enter_new_network()
    add_address6("fe80::1", 64)
    for bound in (("fe80::1", 0, 0, LO), ("::", 0)):
        with socket.socket(socket.AF_INET6) as listener, socket.socket(socket.AF_INET6) as client:
            listener.bind(bound)
            listener.listen()
            port = listener.getsockname()[1]
            client.settimeout(WATCHDOG)
            client.connect(("fe80::1", port, 0, LO))
            expect(in_memory(client), True, "over memory")
            server, shown = listener.accept()
            here, there = client.getsockname(), ("fe80::1", port, 0, LO)
            expect((here[0], here[2:]), ("fe80::1", (0, LO)))
            expect((client.getpeername(), server.getsockname(), server.getpeername(), shown), (there, there, here, here))
            expect(outcome(("fe80::1", port)), "EINVAL")


@case("a socket connects in the network that it was made in, wherever its thread is")
def two_networks():
    first = os.open("/proc/self/ns/net", os.O_RDONLY)
    here = socket.create_server(("127.0.0.1", 0))
    address = here.getsockname()
    of_first, another = socket.socket(), socket.socket()
    enter_new_network()
    there = socket.create_server(address)
    there.setblocking(False)
    of_second = socket.socket()
    for client, carrier in ((of_first, False), (of_second, True)):
        client.settimeout(WATCHDOG)
        client.connect(address)
        expect(in_memory(client), carrier)
        client.sendall(b"it's me")
    # To each listener its own.
    expect(here.accept()[0].recv(7), b"it's me")
    expect(there.accept()[0].recv(7), b"it's me")
    if libc.setns(first, CLONE_NEWNET) != 0:
        not_here("no way back into the first network")
    late = socket.socket()
    for client, carrier in ((another, True), (late, True)):
        client.settimeout(WATCHDOG)
        client.connect(address)
        expect(in_memory(client), carrier)
        client.sendall(b"again")
        expect(here.accept()[0].recv(5), b"again")
    try:
        there.accept()
        expect("a client", "none", "in the other network")
    except BlockingIOError:
        pass


@case("a listener that is of another network than its thread is TCP's alone")
def foreign_listener():
    first = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter_new_network()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    second = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.setns(first, CLONE_NEWNET) != 0:
        not_here("no way back into the first network")
    listener.listen()
    told = subprocess.run([SKEIN, "why", f"{os.getpid()}:{listener.fileno()}"], capture_output=True, text=True)
    expect("another network namespace" in told.stdout, True, told)
    expect(libc.setns(second, CLONE_NEWNET), 0)
    expect(outcome(listener.getsockname()), "TCP")


@case("a server in another network than its listener leaves that to TCP once it can't tell whom a client dialled")
def left_behind():
    enter_new_network()
    add_address6("2001:db8::1", 128)
    listener = dual_listener()
    go, told = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.read(go[0], 1)
        address = ("2001:db8::1", listener.getsockname()[1])
        try:
            socket.create_connection(address, timeout=WATCHDOG).recv(1)
        except ConnectionResetError:
            pass
        os.write(told[1], outcome(address).encode())
        os._exit(0)
    os.close(told[1])
    enter_new_network()
    os.write(go[1], b"x")
    listener.settimeout(WATCHDOG)
    listener.accept()
    os.waitpid(child, 0)
    expect(os.read(told[0], 99), b"TCP")
