"""The servers that are compared: each serves one file by the name 'disk' over a Unix socket, TCP, or TCP with TLS."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "Tests" / name) for name in ("Commands", "Export")]
from certificates import Authority  # noqa: E402
from processor_time import seconds_of_running  # noqa: E402

WATCHDOG_SECONDS = 20
CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
SKEIN = os.environ.get("SKEIN_BIN") or CHECKOUT / "build/bin/skein"


def skein(serving):
    secure = ["--tls-certificates", serving.certificates] if serving.certificates else []
    return [SKEIN, "export", f"disk={serving.image}", "--listen", serving.uri, "--manage", serving.folder / "manage", *secure]


def nbdkit(serving):
    place = ["--unix", serving.path] if serving.path else ["--ipaddr", "127.0.0.1", "--port", serving.port]
    secure = ["--tls", "require", f"--tls-certificates={serving.certificates}"] if serving.certificates else []
    return ["nbdkit", "--foreground", "--exportname", "disk", *place, *secure, "file", serving.image]


def qemu_nbd(serving):
    place = ["--socket", serving.path] if serving.path else ["--bind", "127.0.0.1", "--port", serving.port]
    credentials = f"tls-creds-x509,id=tls,endpoint=server,verify-peer=no,dir={serving.certificates}"
    secure = ["--object", credentials, "--tls-creds", "tls"] if serving.certificates else []
    return ["qemu-nbd", "--format", "raw", "--export-name", "disk", "--persistent", "--shared", "64", *place, *secure, serving.image]


def nbd_server(serving):
    place = f"unixsock = {serving.path}" if serving.path else f"listenaddr = 127.0.0.1\nport = {serving.port}"
    settings = serving.folder / "nbd-server.conf"
    # As fast as it can: it may answer writes from memory, as the others do.
    folder = serving.certificates
    secure = f"certfile = {folder}/server-cert.pem\nkeyfile = {folder}/server-key.pem\ncacertfile = {folder}/ca-cert.pem\nforce_tls = true\n" if folder else ""
    settings.write_text(f"[generic]\n{place}\n{secure}[disk]\nexportname = {serving.image}\nflush = true\nfua = true\n")
    # Told to stay in the foreground it would serve one client at a time.
    return ["nbd-server", "-C", settings, "-p", serving.daemon]


SERVERS = {"skein": skein, "nbdkit": nbdkit, "qemu-nbd": qemu_nbd, "nbd-server": nbd_server}


class Serving:
    """A server that takes clients, until the block ends. `port` is for it alone."""

    def __init__(self, name, image, folder, carrier, port, prefix=()):
        self.name, self.image, self.folder, self.port = name, image, folder, port
        self.path = folder / "socket" if carrier == "unix" else None
        self.uri = f"nbd+unix:///?socket={self.path}" if self.path else f"nbd://127.0.0.1:{port}"
        self.client_uri = f"nbd+unix:///disk?socket={self.path}" if self.path else f"{self.uri}/disk"
        self.certificates = None
        if carrier == "tls":
            self.certificates = Authority(folder).folder
            self.client_uri = f"nbds://localhost:{port}/disk"
            # Where libnbd looks for the authority, of a client whose home the folder is.
            trusted = folder / ".pki" / "libnbd"
            trusted.mkdir(parents=True)
            (trusted / "ca-cert.pem").write_bytes((self.certificates / "ca-cert.pem").read_bytes())
        self.prefix = prefix
        # Where a server that goes into the background leaves its process number.
        self.daemon = folder / "daemon.pid"

    def __enter__(self):
        self.log = open(self.folder / "server.log", "wb")
        command = [*self.prefix, *map(str, SERVERS[self.name](self))]
        self.leader = None
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        deadline = time.monotonic() + WATCHDOG_SECONDS
        while not self.takes_clients():
            if self.process.poll() or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"{self.name} doesn't serve: {(self.folder / 'server.log').read_text()[-500:]}")
            time.sleep(0.01)
        self.leader = int(self.daemon.read_text()) if self.daemon.exists() else self.process.pid
        return self

    def takes_clients(self):
        try:
            if self.path:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.path))
            else:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True

    def processor_seconds(self):
        """Of all processes of the server, those that have ended for it included."""
        return seconds_of_running(self.leader)

    def __exit__(self, *_):
        # Its children too: nbd-server has one for each client.
        group = self.leader or self.process.pid
        deadline = time.monotonic() + 5
        signal_ = signal.SIGTERM
        try:
            while True:
                os.killpg(group, signal_)
                self.process.poll()  # a dead one counts until its parent has asked
                time.sleep(0.005)
                signal_ = 0 if time.monotonic() < deadline else signal.SIGKILL
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()
