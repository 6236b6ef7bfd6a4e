"""node's http server and client."""

import json
import pathlib

from support.trial import test

from . import web

FOLDER = pathlib.Path(__file__).parent


def serve(t):
    t.server(["node", FOLDER / "node_server.js", t.port, t.documents.folder])


@test("node's server and client exchange files on eight kept connections", needs=["node"])
def exchange(t):
    serve(t)
    counts = json.loads(t.client(["node", FOLDER / "node_client.js", f"http://127.0.0.1:{t.port}", t.documents.folder]))
    assert counts["requests"] == 2 * (10 * len(t.documents.small) + 2), f"the client made other requests: {counts}"
    t.moved(counts["bytes"])


@test("node hands curl a file of 64 MiB", needs=["node", "curl"])
def big_file(t):
    serve(t)
    web.fetch(t, t.documents.big)
