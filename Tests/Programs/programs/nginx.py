"""nginx-light with two workers, as root and www-data, with curl, wrk and ab."""

import re
import signal
import time

from support import namespace
from support.trial import Skip, find_program, test

from . import web

CONFIGURATION = """
user www-data;
worker_processes 2;
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {documents};
    }}
}}
"""

CONNECTIONS = 50  # of wrk


def serve(t):
    if not namespace.has_several_users():
        raise Skip("nginx starts as root and becomes www-data")
    configuration = t.folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=t.folder, port=t.port, documents=t.documents.folder))
    return t.server([find_program("nginx"), "-e", "stderr", "-p", t.folder, "-c", configuration])


def wrk(t, seconds, *options):
    return ["wrk", "-t", "2", "-c", CONNECTIONS, "-d", f"{seconds}s", *options, web.url(t, t.documents.small[3])]


def requests_and_errors(printed):
    """How many requests wrk counted, and how many of its connections failed."""
    text = printed.decode()
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    count = int(re.search(r"(\d+) requests in", text)[1])
    return count, sum(map(int, errors.groups() if errors else ())) + (int(refused[1]) if refused else 0)


@test("nginx hands curl a file of 64 MiB", needs=["nginx", "curl"])
def big_file(t):
    serve(t)
    web.fetch(t, t.documents.big)


@test("nginx hands curl small files on one kept connection", needs=["nginx", "curl"])
def keep_alive(t):
    serve(t)
    web.fetch_small_ones_on_one_connection(t)


@test("nginx hands curl eight files side by side", needs=["nginx", "curl"])
def side_by_side(t):
    serve(t)
    web.fetch_side_by_side(t)


@test("nginx answers wrk on 50 kept connections without an error", needs=["nginx", "wrk"])
def wrk_keeps_connections(t):
    serve(t)
    count, errors = requests_and_errors(t.client(wrk(t, 2)))
    assert count > 0 and errors == 0, f"{errors} errors in {count} requests"
    t.moved(count * t.documents.small[3].stat().st_size)


@test("nginx answers ab, a new connection for each of 3,000 requests", needs=["nginx", "ab"])
def ab_connects_each_time(t):
    serve(t)
    run_ab(t, 3000)


@test("nginx answers ab on ten kept connections", needs=["nginx", "ab"])
def ab_keeps_connections(t):
    serve(t)
    run_ab(t, 10000, "-k")


def run_ab(t, count, *options):
    """Returns what ab printed, a request failed or not all made being a failure."""
    text = t.client(["ab", "-q", "-n", count, "-c", 10, *options, web.url(t, t.documents.small[3])]).decode()
    assert re.search(rf"Complete requests:\s+{count}\b", text), f"not all requests complete: {text[-300:]}"
    assert re.search(r"Failed requests:\s+0\b", text), f"failed requests: {text[-300:]}"
    assert "Non-2xx" not in text, "some answers were no 200"
    t.moved(count * t.documents.small[3].stat().st_size)
    return text


RELOADS = 4


@test("nginx reloads during wrk, a new connection for each request, and none fails", needs=["nginx", "wrk"])
def reload_with_new_connections(t):
    count, errors = reload_during_wrk(t, RELOADS, 0.7, "-H", "Connection: close")
    assert errors == 0, f"{errors} of {count} requests failed"


@test("nginx reloads during wrk on kept connections, and each fails once or twice a reload at most", needs=["nginx", "wrk"])
def reload_with_kept_connections(t):
    # TCP itself loses a request that reaches an old worker while that closes the idle connection; on a busy machine the next one
    # too, which reaches the same worker.
    count, errors = reload_during_wrk(t, RELOADS, 0.7)
    assert errors <= 2 * RELOADS * CONNECTIONS, f"{errors} of {count} requests failed"


@test("nginx reloads thirty times without a pause during wrk, a new connection for each request, and none fails",
      needs=["nginx", "wrk"])
def reload_in_a_loop(t):
    count, errors = reload_during_wrk(t, 30, 0, "-H", "Connection: close")
    assert errors == 0, f"{errors} of {count} requests failed"


def reload_during_wrk(t, reloads, pause, *options):
    """Returns how many requests wrk made in the meantime, and how many failed."""
    master = serve(t)
    client = t.start_client(wrk(t, 4, *options))
    for number in range(reloads):
        time.sleep(pause)
        master.send_signal(signal.SIGHUP)
        wait_for_workers(master, 2 * (number + 2))
    count, errors = requests_and_errors(t.finish(client))
    assert count > 100 * RELOADS, f"only {count} requests: the reloads stopped the traffic"
    t.moved(count * t.documents.small[3].stat().st_size)
    return count, errors


def wait_for_workers(master, count):
    """Returns once the server has started so many: a second signal before that would count for nothing."""
    while (started := master.err.read_text().count("start worker process ")) < count:
        time.sleep(0.01)
    assert started == count, f"{started} workers were started where {count} should have been"
