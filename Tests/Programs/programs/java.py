"""Java's com.sun.net.httpserver and java.net.http, each a source file that `java` compiles and runs."""

import json
import pathlib
import subprocess

from support.trial import Skip, find_program, test

from . import web

FOLDER = pathlib.Path(__file__).parent
HEAP = "-Xmx512m"  # a small part of the machine's memory, which others use too


def serve(t):
    need_compiler()
    t.server(["java", HEAP, FOLDER / "FileServer.java", t.port, t.documents.folder])


def need_compiler():
    modules = subprocess.run([find_program("java"), "--list-modules"], capture_output=True, text=True).stdout
    if "jdk.compiler" not in modules:
        raise Skip("this java runs no source files: it has no compiler (a JDK has one)")


@test("java's server and client exchange files in eight threads", needs=["java"])
def exchange(t):
    serve(t)
    printed = t.client(["java", HEAP, FOLDER / "FileClient.java", f"http://127.0.0.1:{t.port}/", t.documents.folder])
    counts = json.loads(printed)
    assert counts["requests"] == 2 * (10 * len(t.documents.small) + 2), f"the client made other requests: {counts}"
    t.moved(counts["bytes"])


@test("java hands curl a file of 64 MiB", needs=["java", "curl"])
def big_file(t):
    serve(t)
    web.fetch(t, t.documents.big)


@test("java hands curl small files on one kept connection", needs=["java", "curl"])
def keep_alive(t):
    serve(t)
    web.fetch_small_ones_on_one_connection(t)
