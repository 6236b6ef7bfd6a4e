"""A bare Debian in a folder, made by debootstrap from where this machine's apt-get gets its own packages."""

import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile

from harness import CHECKOUT, Skip

LIMIT_SECONDS = 600
# In namespaces of its own: nobody else sees its processes and mounts, and it has a loopback device alone.
START = 'ip link set lo up && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
# What changes with each installation of anything, or isn't the system's.
CHANGING = ("proc", "tmp", "var/lib/dpkg", "var/log", "var/cache/ldconfig", "etc/ld.so.cache")


class System:
    """A root folder, gone with the value."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="system-", dir=CHECKOUT / "build/test")
        self.root = pathlib.Path(self.folder.name)

    def run(self, *words):
        """Standard output of a command in there, which has to end well."""
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        command = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", START, self.root,
                   "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in variables.items()), *words]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT_SECONDS,
                                stdin=subprocess.DEVNULL)
        assert result.returncode == 0, f"{words} ended with {result.returncode}: {result.stdout[-800:]}{result.stderr[-800:]}"
        return result.stdout

    def files(self):
        """What is in there, by path: kind, rights, owner, and content."""
        found = {}
        for parent, folders, names in os.walk(self.root):
            relative = os.path.relpath(parent, self.root)
            folders[:] = [name for name in folders if os.path.normpath(f"{relative}/{name}") not in CHANGING]
            for name in folders + names:
                path = os.path.normpath(f"{relative}/{name}")
                if path in CHANGING:
                    continue
                status = os.lstat(self.root / path)
                content = None
                if stat.S_ISLNK(status.st_mode):
                    content = os.readlink(self.root / path)
                elif stat.S_ISREG(status.st_mode):
                    content = hashlib.sha256((self.root / path).read_bytes()).digest()
                found[path] = (status.st_mode, status.st_uid, status.st_gid, content)
        return found


def mirror():
    """Where apt-get gets this release from, and the variables that lead there."""
    wanted = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    try:
        lines = subprocess.run(["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"], capture_output=True, text=True)
        sites = [line.split()[2] for line in lines.stdout.splitlines() if line.split()[:2] == ["bookworm", "main"]]
        if not sites:
            raise Skip("this machine's apt-get has no packages of Debian 12: it has other sources, or wants an 'apt-get update'")
        proxies = {}
        for scheme in ("http", "https"):
            said = subprocess.run(["apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy"], capture_output=True, text=True)
            if said.stdout.strip():
                proxies[f"{scheme}_proxy"] = said.stdout.strip().removeprefix("PROXY=").strip("'")
    except FileNotFoundError as error:
        raise Skip(f"needs {error.filename}") from None
    return sites[0], proxies


def bare_system(packages, suite="bookworm"):
    """Debian 12, or another one, with what is essential, and these packages. Skips the test where none can be made."""
    if os.geteuid() != 0:
        raise Skip("debootstrap needs root")
    debootstrap = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
    if not debootstrap:
        raise Skip("needs debootstrap")
    site, proxies = mirror()
    system = System()
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", debootstrap, "--variant=minbase",
               f"--include={','.join(packages)}", suite, system.root, site]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT_SECONDS, env=os.environ | proxies,
                            stdin=subprocess.DEVNULL)
    if result.returncode:
        reason = [line for line in result.stdout.splitlines() if line.startswith("E: ")] or result.stderr.splitlines() or ["it said nothing"]
        raise Skip(f"debootstrap can't make a system here: {reason[-1]}")
    return system
