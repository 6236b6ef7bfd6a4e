"""haproxy with two threads between curl and python's http.server: a server and a client in one process."""

from support.trial import PYTHON, test

from . import web

CONFIGURATION = """
global
    nbthread 2
defaults
    mode {mode}
    {options}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend front
    bind 127.0.0.1:{port}
    default_backend behind
backend behind
    server python 127.0.0.1:{behind}
"""


def serve(t, mode, options="", protocol="HTTP/1.1"):
    behind = t.free_port()
    t.backend([PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "--directory", t.documents.folder,
               "--protocol", protocol, behind], behind)
    configuration = t.folder / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(mode=mode, options=options, port=t.port, behind=behind))
    t.server(["haproxy", "-db", "-f", configuration])


def twice(t):
    """What curl got went over two connections, haproxy's and its own."""
    t.moved(t.payload_bytes)


@test("haproxy passes a file of 64 MiB from python's http.server to curl", needs=["haproxy", "curl"])
def big_file(t):
    serve(t, "http")
    web.fetch(t, t.documents.big)
    twice(t)


@test("haproxy passes eight files side by side", needs=["haproxy", "curl"])
def side_by_side(t):
    serve(t, "http")
    web.fetch_side_by_side(t)
    twice(t)


@test("haproxy passes small files on kept connections at both of its ends", needs=["haproxy", "curl"])
def keep_alive(t):
    serve(t, "http", "option http-keep-alive")
    web.fetch_small_ones_on_one_connection(t)
    twice(t)


@test("haproxy passes a file of 64 MiB as a TCP proxy that may splice", needs=["haproxy", "curl"])
def splice(t):
    serve(t, "tcp", "option splice-auto", "HTTP/1.0")
    web.fetch(t, t.documents.big)
    twice(t)
