"""PostgreSQL as its own user, a process for each connection, with pgbench and psql."""

import hashlib
import pathlib
import re
import shutil

from support import namespace
from support.trial import Skip, group_of, test

USER = "postgres"
TRANSACTIONS = 2000  # of each of eight clients
QUERY_BYTES = 50  # a query of pgbench's and its answer have more, each


def find(name):
    """A program of the newest PostgreSQL: Debian keeps them out of PATH."""
    folders = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    if not folders or not (folders[-1] / name).exists():
        raise Skip(f"{name} of PostgreSQL is not installed (Tests/Programs/install.sh)")
    return folders[-1] / name


def serve(t):
    """A server on a database of its own, which trusts who asks."""
    if not namespace.has_several_users():
        raise Skip("PostgreSQL refuses to run as root: the test becomes its user")
    group_of(USER)
    data = t.folder / "data"
    data.mkdir(mode=0o700)
    shutil.chown(data, USER)
    t.prepare([find("initdb"), "--pgdata", data, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"],
              user=USER)
    t.server([find("postgres"), "-D", data, "-p", t.port, "-c", "listen_addresses=127.0.0.1",
              "-c", "unix_socket_directories=", "-c", "fsync=off"], user=USER)


def client(t, name, *arguments):
    return t.client([find(name), "-h", "127.0.0.1", "-p", t.port, "-U", USER, *arguments])


def query(t, text):
    return client(t, "psql", "--no-psqlrc", "--no-align", "--tuples-only", "--command", text, "postgres")


@test("PostgreSQL answers pgbench's queries from eight clients in two threads", needs=["setpriv"])
def pgbench(t):
    serve(t)
    client(t, "pgbench", "--initialize", "--quiet", "postgres")
    printed = client(t, "pgbench", "--select-only", "--no-vacuum", "--client", 8, "--jobs", 2,
                     "--transactions", TRANSACTIONS, "postgres").decode()
    count = 8 * TRANSACTIONS
    assert f"actually processed: {count}/{count}\n" in printed, f"not all transactions were made: {printed[-300:]}"
    assert re.search(r"failed transactions: 0 ", printed), f"transactions failed: {printed[-300:]}"
    accounts = query(t, "select count(*) from pgbench_accounts")
    assert accounts == b"100000\n", f"the table that pgbench filled has {accounts} rows"
    t.moved(count * QUERY_BYTES)


@test("PostgreSQL answers pgbench, a new connection and so a new process for each of 400 queries", needs=["setpriv"])
def pgbench_connects_each_time(t):
    serve(t)
    client(t, "pgbench", "--initialize", "--quiet", "postgres")
    printed = client(t, "pgbench", "--select-only", "--no-vacuum", "--connect", "--client", 8, "--jobs", 2,
                     "--transactions", 50, "postgres").decode()
    assert "actually processed: 400/400\n" in printed, f"not all transactions were made: {printed[-300:]}"
    t.moved(400 * QUERY_BYTES)


@test("PostgreSQL hands psql a value of 1 MiB", needs=["setpriv"])
def large_value(t):
    serve(t)
    value = query(t, "select string_agg(md5(i::text), '' order by i) from generate_series(1, 32768) as i")
    expected = "".join(hashlib.md5(b"%d" % number).hexdigest() for number in range(1, 32769)).encode()
    assert value == expected + b"\n", f"{len(value)} bytes came that are not those asked for"
    t.moved(len(expected))


@test("PostgreSQL copies a table from psql and back to it", needs=["setpriv"])
def copy(t):
    serve(t)
    rows = t.folder / "rows"
    rows.write_text("".join(f"{number}\t{hashlib.md5(b'%d' % number).hexdigest()}\n" for number in range(100000)))
    back = t.folder / "back"
    client(t, "psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1",
           "--command", "create table digests (number integer, digest text)",
           "--command", f"\\copy digests from '{rows}'",
           "--command", f"\\copy (select * from digests order by number) to '{back}'", "postgres")
    t.arrived(back, rows)
    t.moved(rows.stat().st_size)
