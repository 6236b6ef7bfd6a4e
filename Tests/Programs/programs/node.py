"""node's http server and client."""

import json
import pathlib

from support.trial import test

from . import nginx, web

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


@test("node's cluster passes each of wrk's 50 kept connections to a worker, which answers without an error",
      needs=["node", "wrk"])
def cluster(t):
    t.server(["node", FOLDER / "node_cluster.js", t.port, t.documents.folder])
    count, errors = nginx.requests_and_errors(t.client(nginx.wrk(t, 2)))
    assert count > 0 and errors == 0, f"{errors} errors in {count} requests"
    t.moved(count * t.documents.small[3].stat().st_size)
