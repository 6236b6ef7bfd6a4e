"""Python's http.server with curl."""

import pathlib

from support.trial import PYTHON, sha256, test

from . import web

UPLOAD_SERVER = pathlib.Path(__file__).with_name("upload_server.py")


def serve(t, *options, user=None):
    return t.server([PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "--directory", t.documents.folder,
                     *options, t.port], user=user)


@test("python's http.server hands curl a file of 64 MiB", needs=["curl"])
def big_file(t):
    serve(t)
    web.fetch(t, t.documents.big)


@test("python's http.server hands curl small files on one kept connection", needs=["curl"])
def keep_alive(t):
    serve(t, "--protocol", "HTTP/1.1")
    web.fetch_small_ones_on_one_connection(t)


@test("python's http.server hands curl eight files side by side, a thread each", needs=["curl"])
def side_by_side(t):
    serve(t)
    web.fetch_side_by_side(t)


@test("curl uploads 64 MiB to a server in python", needs=["curl"])
def upload(t):
    t.server([PYTHON, UPLOAD_SERVER, t.port])
    digest = t.client(["curl", "-sS", "--fail", "-X", "POST", "-T", t.documents.big, f"http://127.0.0.1:{t.port}/"])
    assert digest.decode() == sha256(t.documents.big), "the server got other bytes than curl sent"
    t.moved(t.documents.big.stat().st_size)
