"""Options in a file, and SIGHUP: rules and credentials are read anew, and nobody inside notices."""

import contextlib
import os
import shutil
import signal

import nbd
from access_tests import answer, names
from certificates import Authority
from harness import test
from running import TERMINATE, Running
from server import image
from tls_tests import is_refused, secured


@contextlib.contextmanager
def configured(folder, *lines, options=()):
    """A server whose options are in a file. `configure` writes it anew and has it read; what it says then is returned."""
    path = folder / "export.conf"
    socket = f"nbd+unix:///?socket={folder}/socket"
    listen = f"# what it is for\n\n  listen\t{socket}  \n"
    path.write_text(listen + "\n".join(lines))
    with Running(folder, "export", "--config", path, "--verbose", *options, ready="stdout") as running:
        running.client = lambda: nbd.Client(socket)

        def configure(*lines):
            path.write_text(listen + "\n".join(lines))
            running.signal(signal.SIGHUP)
            while "rules and credentials" not in (line := running.line()):
                assert line, "the server has ended"
            return line
        running.configure = configure
        yield running
        running.signal(TERMINATE)
        running.finish()


@test("configuration: a file has options and devices; what the command line says is added, or said last")
def _(folder):
    with configured(folder, f"device disk={image(folder)}", "device\tspaced name=memory:1M ", "allow disk=anyone", "read-only",
                    "max-connections 2", options=["other=memory:2M", "--max-connections", "3"]) as running:
        with contextlib.ExitStack() as held:
            clients = [held.enter_context(running.client()) for _ in range(3)]
            assert names(clients[0]) == ["disk", "spaced name", "other"]
            assert clients[0].go("disk").transmission & 2, "it is read-only"
            with contextlib.suppress(nbd.Closed):
                held.enter_context(running.client())
                raise AssertionError("there was room for a fourth client")


@test("configuration: SIGHUP has rules read anew: who is inside stays, others are judged by the new ones")
def _(folder):
    device = "device disk=memory:1M"
    with configured(folder, device, "allow anyone") as running, running.client() as inside, running.client() as begun:
        inside.go("disk")
        assert "were read anew" in running.configure(device, "allow user:65533")
        assert inside.ping()
        assert answer(begun, "disk") == nbd.ERR["POLICY"]
        with running.client() as client:
            assert names(client) == []
        said = running.configure(device, "allow usr:65533")
        assert "stay as they were" in said and "says nothing about a client" in said, said
        with running.client() as client:
            assert answer(client, "disk") == nbd.ERR["POLICY"]
        for lines, says in [(["allow disc=anyone"], "none of the exports"), (["alow anyone"], "Unknown option '--alow'"),
                            (["tls required"], "takes --tls-certificates")]:
            said = running.configure(device, *lines)
            assert "stay as they were" in said and says in said, said
        assert "were read anew" in running.configure(device)
        with running.client() as client:
            assert answer(client, "disk") == nbd.ACK
        assert inside.ping()


@test("configuration: SIGHUP has certificates read anew: who is inside goes on with the old ones")
def _(folder):
    old, new = Authority(folder), Authority(folder, "new")
    place = folder / "place"
    shutil.copytree(old.folder, place)
    lines = ["device disk=memory:1M", f"tls-certificates {place}"]
    with configured(folder, *lines) as running, running.client() as inside, running.client() as begun:
        secured(inside, old.context()).go("disk")
        shutil.copytree(new.folder, place, dirs_exist_ok=True)
        assert "were read anew" in running.configure(*lines)
        assert inside.write(0, b"1234") == 0 and inside.read(0, 4) == b"1234"
        secured(begun, old.context()).go("disk").ping()
        with running.client() as client:
            assert is_refused(client, old.context())
        with running.client() as client:
            secured(client, new.context()).go("disk").ping()
        os.remove(place / "server-key.pem")
        assert "server-key.pem can't be read" in running.configure(*lines)
        with running.client() as client:
            secured(client, new.context()).go("disk").ping()


@test("configuration: a file that can't be used is refused at the start, with its mistake")
def _(folder):
    path = folder / "export.conf"
    for text, says in [(None, "can't be read"), ("", "has no line with a 'device'"), ("device memory:1M\nlisen x", "Unknown option '--lisen'"),
                       ("device memory:1M\nworkers many", "workers"), ("device memory:1M\nconfig other", "another file"),
                       ("device nowhere/at/all", "is missing")]:
        if text is not None:
            path.write_text(text)
        with Running(folder, "export", "--config", path) as running:
            assert says in running.finish(1)[1], text
