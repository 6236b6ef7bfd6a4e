"""Programs that take system calls from themselves (seccomp)."""

import ctypes
import errno
import os
import select
import socket
import struct
import subprocess

from cases import WATCHDOG, case, connect, echoes, expect, in_memory, pair
from turns import takes_turns

SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
X86 = os.uname().machine == "x86_64"
NUMBERS = dict(zip(("sendto", "recvfrom", "ppoll", "epoll_pwait", "memfd_create", "socket", "socketpair", "mmap",
                    "connect", "seccomp", "clone", "clone3", "setsid", "chdir", "close_range", "epoll_create1",
                    "epoll_ctl", "prlimit64"),
                   (44, 45, 271, 281, 319, 41, 53, 9, 42, 317, 56, 435, 112, 80, 436, 291, 233, 302) if X86
                   else (206, 207, 73, 22, 279, 198, 199, 222, 203, 277, 220, 435, 157, 49, 436, 20, 21, 261)))
if X86:
    NUMBERS |= {"fork": 57, "vfork": 58}
KILL, REFUSE, ALLOW = 0x80000000, 0x00050000 | errno.EPERM, 0x7FFF0000


def forgo_privileges():
    expect(ctypes.CDLL(None, use_errno=True).prctl(38, 1, 0, 0, 0), 0)  # PR_SET_NO_NEW_PRIVS


def deny(how, *calls, past_hooks=False):
    """Answers these calls so from now on. A call is a name, or a name with the number and value of an argument."""
    load, equal, answer = 0x20, 0x15, 0x06
    program = []
    for call in calls:
        name, *argument = call if isinstance(call, tuple) else (call,)
        checks = [(0, NUMBERS[name])] + ([(16 + 8 * argument[0], argument[1])] if argument else [])
        for index, (offset, value) in enumerate(checks):
            left = 2 * (len(checks) - index) - 1
            program += [(load, 0, 0, offset), (equal, 0, left, value)]
        program.append((answer, 0, 0, how))
    program.append((answer, 0, 0, ALLOW))
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    forgo_privileges()
    if past_hooks:
        expect(SYSCALL(NUMBERS["seccomp"], 1, 0, filter_), 0)
    else:
        expect(libc.prctl(22, 2, filter_, 0, 0), 0)  # PR_SET_SECCOMP


def behind(how, *calls, carried, **more):
    """A listener and a connection from before work behind such a filter, and new ones. `carried`: what carries a new
    connection to the old listener and to a new one."""
    listener = socket.create_server(("127.0.0.1", 0))
    old = connect(listener)
    expect(in_memory(old[0]), True, "over memory")
    waiter = select.epoll()
    waiter.register(old[1], select.EPOLLIN)
    waiter.register(listener, select.EPOLLIN)
    deny(how, *calls, **more)
    echoes(*old)
    for place, wanted in zip((listener, socket.create_server(("127.0.0.1", 0))), carried):
        new = connect(place)
        expect("memory" if in_memory(new[0]) else "tcp", wanted)
        echoes(*new)
    old[0].sendall(b"old")
    client = socket.create_connection(listener.getsockname(), timeout=WATCHDOG)
    found = set()
    while found != {old[1].fileno(), listener.fileno()}:
        found |= {number for number, _ in waiter.poll(WATCHDOG)}
    echoes(client, listener.accept()[0])
    expect(old[1].recv(9), b"old")
    old[0].close()
    expect(old[1].recv(9), b"")


def behind_each(cases):
    """Each in a child of its own, since there is no way back."""
    for words in cases:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                behind(*words[0], **words[1])
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        expect(status, 0, words)


TCP = ("tcp", "tcp")
SET_UP = [("memfd_create",), (("socket", 0, 16),), (("mmap", 3, 1),), ("socketpair", "memfd_create")]


@case("behind a filter that kills what setting up takes, new connections are TCP and old ones go on")
def killed_set_up():
    behind_each([((KILL, *calls), {"carried": TCP}) for calls in SET_UP])


@case("behind a filter that refuses what setting up takes, connections are TCP where they must")
def refused_set_up():
    # The old listener's pool has room.
    behind_each([((REFUSE, "memfd_create"), {"carried": ("memory", "tcp")}),
                 ((REFUSE, "memfd_create", "socketpair"), {"carried": ("memory", "tcp")})])


@case("behind a filter that kills what a relay takes, a program that inherits a connection starts without it")
def killed_relay():
    listener = socket.create_server(("127.0.0.1", 0))
    client, server = connect(listener)
    deny(KILL, "socketpair")
    expect(subprocess.run(["true"], stdin=server, timeout=WATCHDOG).returncode, 0)
    echoes(client, server)
    late = connect(listener)
    expect(in_memory(late[0]), True, "over memory")
    echoes(*late)


@case("behind a filter that kills what a connection takes, connections go on as the kernel's sockets, in their epoll sets")
def killed_connections():
    behind_each([((KILL, "ppoll"), {"carried": TCP}), ((KILL, "epoll_pwait"), {"carried": TCP}),
                 ((REFUSE, "epoll_pwait", "memfd_create"), {"carried": TCP})])


@case("a filter that is entered by syscall(2) is seen as well")
def filter_by_number():
    behind_each([((KILL, "memfd_create"), {"carried": TCP, "past_hooks": True}),
                 ((KILL, "epoll_pwait", "ppoll"), {"carried": TCP, "past_hooks": True})])


@case("a program without new privileges, or behind a filter that allows what it takes, takes turns with what it starts")
def turns_confined():
    for confine in (forgo_privileges, lambda: deny(KILL)):
        client, server = pair()
        confine()
        takes_turns(client, server, 10)
