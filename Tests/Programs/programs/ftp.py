"""vsftpd, which passes its connections between processes of several users, with curl and lftp."""

import os
import pathlib
import shutil

from support import namespace
from support.trial import Skip, group_of, test

USER = "ftp"
CONFIGURATION = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
write_enable=YES
anon_upload_enable=YES
anon_umask=022
ftp_username={user}
secure_chroot_dir={empty}
xferlog_enable=NO
# The filter of this version ends vsftpd at the first call of a newer C library that it doesn't know.
seccomp_sandbox=NO
"""
SIMPLE_PROCESSES = "isolate=NO\nisolate_network=NO\n"  # by fork, as in containers


def serve(t, more=SIMPLE_PROCESSES):
    """A server of the documents with a folder `incoming` that takes uploads."""
    if not namespace.has_several_users():
        raise Skip("vsftpd starts as root and becomes several users")
    group_of(USER)
    root, empty = t.folder / "root", t.folder / "empty"
    for path in (root, empty, root / "incoming"):
        path.mkdir()
    shutil.chown(root / "incoming", USER)
    for path in [*t.documents.small, t.documents.middle, t.documents.big]:
        os.link(path, root / path.name)  # the server is shut in where a symbolic link leads nowhere
    configuration = t.folder / "vsftpd.conf"
    configuration.write_text(CONFIGURATION.format(port=t.port, root=root, empty=empty, user=USER) + more)
    t.server(["vsftpd", configuration])
    t.server_is_shut_in = True
    return root


def url(t, name):
    return f"ftp://127.0.0.1:{t.port}/{name}"


def curl(t, *arguments):
    return t.client(["curl", "-sS", *arguments])


def fetch_with_curl(t, *options):
    for original in (t.documents.big, t.documents.small[3], t.documents.small[-1]):
        copy = t.folder / f"copy-of-{original.name}"
        curl(t, *options, "-o", copy, url(t, original.name))
        t.arrived(copy, original)


def lftp(t, *commands):
    settings = ["set cmd:fail-exit yes", "set net:max-retries 1", "set net:timeout 30", "set xfer:log no"]
    return t.client(["lftp", "--norc", "-c", "; ".join([*settings, *commands])])


def mirror(t, passive):
    """All documents down, three at a time, then two of them up, each time on connections of their own."""
    root = serve(t)
    copies = t.folder / "copies"
    lftp(t, f"set ftp:passive-mode {passive}", f"open {url(t, '')}",
         f"mirror --parallel=3 --exclude incoming/ / {copies}",
         f"put -O incoming {t.documents.middle}", f"put -O incoming {t.documents.small[3]}")
    for original in [*t.documents.small, t.documents.middle, t.documents.big]:
        t.arrived(copies / original.name, original)
    for original in (t.documents.middle, t.documents.small[3]):
        t.arrived(root / "incoming" / original.name, original, up=True)


@test("vsftpd sends curl files, passive", needs=["vsftpd", "curl"])
def curl_passive(t):
    serve(t)
    fetch_with_curl(t, "--ftp-pasv")


@test("vsftpd sends curl files, active", needs=["vsftpd", "curl"])
def curl_active(t):
    serve(t)
    fetch_with_curl(t, "--ftp-port", "127.0.0.1")


@test("vsftpd takes 64 MiB from curl, passive and active", needs=["vsftpd", "curl"])
def upload(t):
    root = serve(t)
    for name, options in (("passive", ["--ftp-pasv"]), ("active", ["--ftp-port", "127.0.0.1"])):
        curl(t, *options, "-T", t.documents.big, url(t, f"incoming/{name}"))
        t.arrived(root / "incoming" / name, t.documents.big, up=True)


@test("vsftpd and lftp exchange many files, passive", needs=["vsftpd", "lftp"])
def lftp_passive(t):
    mirror(t, "on")


@test("vsftpd and lftp exchange many files, active", needs=["vsftpd", "lftp"])
def lftp_active(t):
    mirror(t, "off")


@test("vsftpd sends curl files, active, from port 20, to which it has a right without being root",
      needs=["vsftpd", "curl"])
def port_20(t):
    serve(t, SIMPLE_PROCESSES + "connect_from_port_20=YES\n")
    fetch_with_curl(t, "--ftp-port", "127.0.0.1")


@test("vsftpd sends curl files from processes that it makes by a direct call of clone", needs=["vsftpd", "curl"])
def isolated(t):
    serve(t, more="")
    fetch_with_curl(t, "--ftp-pasv")
    fetch_with_curl(t, "--ftp-port", "127.0.0.1")


@test("vsftpd serves forty clients, one after the other, in the 200 MB of addresses that it allows itself",
      needs=["vsftpd", "curl"])
def many_clients(t):
    serve(t)
    for number in range(40):
        copy = t.folder / f"copy-{number}"
        curl(t, "-o", copy, url(t, t.documents.small[-1].name))
        t.arrived(copy, t.documents.small[-1])
