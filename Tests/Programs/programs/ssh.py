"""OpenSSH: an sshd that runs itself anew for each connection, with ssh and scp."""

import hashlib
import os
import pathlib

from support import namespace
from support.trial import Skip, find_program, sha256, test

SERVER_CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
Subsystem sftp internal-sftp
"""

CLIENT_CONFIGURATION = """
Host server
    HostName 127.0.0.1
    Port {port}
    User root
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    BatchMode yes
    StrictHostKeyChecking yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile none
"""


def serve(t):
    """An sshd with a key of its own, and a configuration with which ssh reaches it as 'server'."""
    if not namespace.has_several_users():
        raise Skip("sshd starts as root and becomes its users")
    for name in ("host_key", "user_key"):
        t.prepare(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", t.folder / name])
    host_key = (t.folder / "host_key.pub").read_text()
    (t.folder / "known_hosts").write_text(f"[127.0.0.1]:{t.port} {host_key}")
    for name, text in (("sshd_config", SERVER_CONFIGURATION), ("ssh_config", CLIENT_CONFIGURATION)):
        (t.folder / name).write_text(text.format(port=t.port, folder=t.folder))
    pathlib.Path("/run/sshd").mkdir(exist_ok=True)  # where its processes without rights are shut in; /run is the test's
    t.server([find_program("sshd"), "-D", "-e", "-f", t.folder / "sshd_config"])


def ssh(t, command, *options, stdin=os.devnull):
    return t.client(["ssh", "-F", t.folder / "ssh_config", *options, "server", command], stdin=stdin)


def scp(t, source, target, *options):
    return t.client(["scp", "-q", "-F", t.folder / "ssh_config", *options, source, target])


@test("ssh runs a command, which sees both addresses of the connection", needs=["sshd", "ssh", "ssh-keygen"])
def addresses(t):
    serve(t)
    seen = ssh(t, "echo $SSH_CONNECTION").decode().split()
    assert len(seen) == 4, f"SSH_CONNECTION is {seen}"
    assert (seen[0], seen[2], seen[3]) == ("127.0.0.1", "127.0.0.1", str(t.port)), f"SSH_CONNECTION is {seen}"
    assert 1024 <= int(seen[1]) <= 65535 and seen[1] != seen[3], f"the client's port is {seen[1]}"
    t.moved(len(" ".join(seen)))


@test("ssh carries 16 MiB to a command and its output back", needs=["sshd", "ssh", "ssh-keygen"])
def through_cat(t):
    serve(t)
    printed = ssh(t, "cat", stdin=t.documents.middle)
    assert hashlib.sha256(printed).hexdigest() == sha256(t.documents.middle), "what came back differs"
    t.moved(2 * len(printed))


@test("ssh shows a command on a terminal", needs=["sshd", "ssh", "ssh-keygen"])
def terminal(t):
    serve(t)
    lines = ssh(t, "test -t 0 && seq 1 20000", "-tt").split()
    assert lines == [b"%d" % number for number in range(1, 20001)], f"{len(lines)} lines came"
    t.moved(sum(map(len, lines)))


@test("scp copies 64 MiB to the server and back", needs=["sshd", "scp", "ssh-keygen"])
def there_and_back(t):
    serve(t)
    there, back = t.folder / "there", t.folder / "back"
    scp(t, t.documents.big, f"server:{there}")
    t.arrived(there, t.documents.big)
    scp(t, f"server:{there}", back)
    t.arrived(back, t.documents.big)


@test("scp copies a folder with the protocol that needs a remote scp", needs=["sshd", "scp", "ssh-keygen"])
def folder(t):
    serve(t)
    scp(t, t.documents.small[0].parent, f"server:{t.folder}/there", "-O", "-r")
    for path in [*t.documents.small, t.documents.middle, t.documents.big]:
        t.arrived(t.folder / "there" / path.name, path)
