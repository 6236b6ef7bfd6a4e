"""A service with the drop-in of the recipe. systemd itself doesn't run here: its own checker reads the files,
and the service is started with the environment that they give it."""

import ctypes
import os
import re
import shutil
import struct
import subprocess

from carrier import CLIENT, PRELOAD, PYTHON, SERVER, carrier, environment
from harness import CHECKOUT, WATCHDOG_SECONDS, Skip, test
from support.namespace import has_several_users

SERVICE = f"[Service]\nExecStart={PYTHON} -m http.server 8000\n"


def files(folder):
    """The files that docs/RECIPES.md shows, written below the folder; by path."""
    text = (CHECKOUT / "docs/RECIPES.md").read_text()
    found = {path: body for path, body in re.findall(r"^```\w*\n# (/etc/\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)}
    for path, body in found.items():
        place = folder / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(body.replace("/usr/local/lib/libskein-preload.so", str(PRELOAD)))
    return {path: folder / path[1:] for path in found}


def drop_in(folder):
    return next(place for path, place in files(folder).items() if path.endswith(".service.d/skein.conf"))


def settings(folder):
    """The environment that the drop-in gives."""
    return dict(line.split("=", 2)[1:] for line in drop_in(folder).read_text().splitlines() if line.startswith("Environment="))


def need(program):
    if not shutil.which(program):
        raise Skip(f"needs {program}")


@test("systemd's checker takes the drop-in, and reads it")
def _(folder):
    need("systemd-analyze")
    units = drop_in(folder).parents[1]
    (units / "redis-server.service").write_text(SERVICE)

    def verify():
        return subprocess.run(["systemd-analyze", "verify", "redis-server.service"], capture_output=True, text=True,
                              env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:"})
    result = verify()
    assert result.returncode == 0 and "redis-server" not in result.stderr, result
    with open(units / "redis-server.service.d/skein.conf", "a") as file:
        file.write("NoSuchKey=1\n")
    assert "NoSuchKey" in verify().stderr, "the checker doesn't look at drop-ins: this test says nothing"


@test("systemd-tmpfiles makes the runtime folder, which the header uses")
def _(folder):
    need("systemd-tmpfiles")
    place = files(folder)["/etc/tmpfiles.d/skein.conf"]
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    if os.geteuid() != 0:
        raise Skip("needs root")
    subprocess.run(["systemd-tmpfiles", f"--root={folder}", "--create", place], check=True, capture_output=True)
    made = folder / "run/skein"
    assert made.stat().st_mode & 0o7777 == 0o1777 and made.stat().st_uid == 0
    connects = "import socket\nwith socket.create_server(('127.0.0.1', 0)) as listener: socket.create_connection(listener.getsockname())"
    subprocess.run([PYTHON, "-c", connects], env=environment(folder, SKEIN_DIR=str(made), LD_PRELOAD=str(PRELOAD)), check=True)
    assert [path.name for path in (made / "0").iterdir()] == ["totals-1"]


def service(folder, port, **options):
    """A server as the service is started: nothing but its environment, as a user of its own where we can be several."""
    rights = ["setpriv", "--reuid", "33", "--regid", "33", "--clear-groups"] if has_several_users() else []
    return subprocess.Popen([*rights, PYTHON, "-c", SERVER, "127.0.0.1", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            cwd="/", env={"PATH": "/usr/bin", "SKEIN_DIR": str(folder)} | settings(folder), **options)


@test("a service with the drop-in's environment meets another user's client on its port, and on no other")
def _(folder):
    if not all(parent.stat().st_mode & 1 for parent in PRELOAD.parents):
        raise Skip("the library lies below a closed folder")
    variables = environment(folder)
    wanted = int(settings(folder)["SKEIN_ONLY"])
    for port, carried in ((wanted, "memory"), (wanted + 1, "tcp")):
        with service(folder, port) as process:
            assert process.stdout.readline() == f"{port}\n".encode(), "the server did not start"
            assert carrier(variables, port) == carried
            process.stdin.close()
            process.wait(WATCHDOG_SECONDS)


def without_family(family):
    """Makes socket(2) fail for a family, as RestrictAddressFamilies= does, in this process from now on."""
    load, equal, answer, deny = 0x20, 0x15, 6, 0x50000 | 97  # EAFNOSUPPORT
    number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
    # If the call is socket, and its first argument the family: refuse. Else allow.
    program = [(load, 0, 0, 0), (equal, 0, 3, number), (load, 0, 0, 16), (equal, 0, 1, family), (answer, 0, 0, deny), (answer, 0, 0, 0x7FFF0000)]
    text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((38, 1, 0, 0, 0), (22, 2, filter_, 0, 0)):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


@test("where the unit's filter denies AF_UNIX or AF_NETLINK, a service and a client work on TCP")
def _(folder):
    variables = environment(folder)

    def start(family, *words):
        return subprocess.Popen([PYTHON, "-c", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                env=variables | {"LD_PRELOAD": str(PRELOAD)}, preexec_fn=lambda: family and without_family(family))
    # A client needs both. A server needs AF_NETLINK for nothing: it answers who asked the kernel.
    for at_server, at_client, carried in ((0, 0, "memory"), (1, 0, "tcp"), (0, 1, "tcp"), (0, 16, "tcp"), (16, 0, "memory")):
        with start(at_server, SERVER, "127.0.0.1", "0") as process:
            with start(at_client, CLIENT, "127.0.0.1", process.stdout.readline().strip()) as client:
                assert client.stdout.read() == f"{carried}\n", (at_server, at_client)
            process.stdin.close()
            process.wait(WATCHDOG_SECONDS)
