"""memcached with four threads, started as root and run as nobody, with a client of eight threads."""

import json
import pathlib

from support import namespace
from support.trial import PYTHON, Skip, test

CLIENT = pathlib.Path(__file__).with_name("memcached_client.py")


@test("memcached keeps and returns what eight threads of a client store", needs=["memcached"])
def eight_threads(t):
    if not namespace.has_several_users():
        raise Skip("memcached starts as root and becomes nobody")
    t.server(["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", t.port, "-t", 4, "-m", 128, "-I", "2m"])
    counts = json.loads(t.client([PYTHON, CLIENT, t.port, 8]))
    assert counts["sets"] == counts["server_sets"], f"the server counts other sets than the client: {counts}"
    assert counts["gets"] == counts["server_hits"], f"the server counts other hits than the client: {counts}"
    t.moved(counts["bytes"])
