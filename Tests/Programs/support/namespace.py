"""A network of our own, and our own /run and /tmp, so that no test can meet the machine's own daemons."""

import os
import subprocess
import sys

MARK = "SKEIN_TEST_NAMESPACE"


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
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode={mode}", "skein-tests", folder], check=True)
        os.environ.pop("SKEIN_DIR", None)
        return
    os.environ[MARK] = own
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", "--net", "--mount", *rights, sys.executable, *sys.argv]
    try:
        os.execvp("unshare", command)
    except OSError as error:
        sys.exit(f"cannot make namespaces ({error}): install util-linux, or run as root")


def has_several_users():
    """Whether processes here may take another user's identity."""
    with open("/proc/self/uid_map") as map_:
        return os.geteuid() == 0 and sum(int(line.split()[2]) for line in map_) > 65535
