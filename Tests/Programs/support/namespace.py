"""A network of our own, and our own /run and /tmp, so that no test can meet the machine's own daemons."""

import ctypes
import os
import pathlib
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
MARK = "SKEIN_TEST_NAMESPACE"
MS_BIND, MS_REC = 0x1000, 0x4000


def enter():
    """Runs this very script again inside fresh network and mount namespaces: the loopback device is up,
    /run and /tmp are empty, so that the tests see Skein's default folders as a fresh machine has them.

    Returns at once in the inner run. Without root a user namespace gives the rights that are needed;
    tests that want several users skip themselves there (`has_several_users`).
    """
    own = os.readlink("/proc/self/ns/net")
    outer = os.environ.pop(MARK, None)
    if outer is not None and outer != own:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for folder, mode in (("/run", "755"), ("/tmp", "1777")):
            empty(folder, mode)
        os.environ.pop("SKEIN_DIR", None)
        return
    os.environ[MARK] = own
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", "--net", "--mount", *rights, sys.executable, *sys.argv]
    try:
        os.execvp("unshare", command)
    except OSError as error:
        sys.exit(f"cannot make namespaces ({error}): install util-linux, or run as root")


def empty(folder, mode):
    """Hides what is in the folder, except the checkout where that lies below it."""
    checkout = os.open(CHECKOUT, os.O_PATH) if CHECKOUT.is_relative_to(folder) else None
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode={mode}", "skein-tests", folder], check=True)
    if checkout is not None:
        CHECKOUT.mkdir(parents=True)
        # Not by mount(8): it looks up where the link leads to, which is hidden now. The kernel knows the folder itself.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"/proc/self/fd/%d" % checkout, bytes(CHECKOUT), None, MS_BIND | MS_REC, None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(CHECKOUT))
        os.close(checkout)


def has_several_users():
    """Whether processes here may take another user's identity."""
    with open("/proc/self/uid_map") as map_:
        return os.geteuid() == 0 and sum(int(line.split()[2]) for line in map_) > 65535
