"""A client of our own making, that takes its time between connecting and its hello."""

import fcntl
import os
import pathlib
import socket
import struct
import subprocess

SKEIN = pathlib.Path(__file__).resolve().parents[2] / "build/bin/skein"
SO_COOKIE = 57
SEALS = 0x1 | 0x2 | 0x4  # against more seals, shrinking and growing


class SlowClient:
    """Made where the listener is; connects and says hello wherever it is asked to."""

    def __init__(self, listener, port):
        """`port` is the one that it will say it has."""
        version = int(subprocess.run([SKEIN, "version"], stdout=subprocess.PIPE, check=True, text=True).stdout.split()[-1])
        cookie = struct.unpack("Q", listener.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]
        self.name = f"\0skein/{version}/tcp/{cookie:x}"
        self.memory = os.memfd_create("by hand", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.ftruncate(self.memory, 4096 + (64 << 10) + (2 << 20))
        fcntl.fcntl(self.memory, fcntl.F_ADD_SEALS, SEALS)
        addresses = address(listener.getsockname()[1]) + bytes(4) + address(port)
        self.hello = struct.pack("=IIiI", 0x4e494b53, version, 0, 1) + addresses
        self.forwarding = struct.pack("=IIiI", 0x46574b53, version, 0, 1) + addresses

    def connect(self):
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.connect(self.name)

    def say_hello(self, proof=None):
        """`proof`: the socket that is to prove that the port is its own."""
        socket.send_fds(self.end, [self.hello], [self.memory] + ([proof.fileno()] if proof else []))

    def forward(self, another, proof):
        """Says instead that it puts another client back; `proof` is to show that it holds the listener."""
        socket.send_fds(self.end, [self.forwarding], [another.fileno()] + ([proof.fileno()] if proof else []))


def address(port):
    return struct.pack("=HH4x4s4xQI", socket.AF_INET, port, socket.inet_aton("127.0.0.1"), 0, 0)
