"""The management channel: exports listed, added, taken away, resized and counted while the server runs."""

import json
import os
import socket
import threading

import nbd
from certificates import CLIENT, Authority
from harness import one_line, skein, test
from managing import listed, tell
from running import host, needs_root, until
from server import SIZE, image, secure_server, server, sparse
from tls_tests import secured


@test("manage: ls lists names, sizes, modes, clients and devices, as text and as JSON")
def _(folder):
    path = image(folder)
    with server(folder, f"disk={path}", "scratch=memory:4M", f"view=read-only:{path}") as running, running.client() as client:
        client.go("disk")
        found = listed(folder)
        assert list(found) == ["disk", "scratch", "view"]
        assert found["disk"] == {"name": "disk", "bytes": SIZE, "read_only": False, "clients": 1, "device": f"file {path}"}
        assert found["view"]["read_only"] and found["scratch"]["bytes"] == 4 << 20 and found["scratch"]["clients"] == 0
        lines = [line.split("\t") for line in tell(folder, "ls")[0].splitlines()]
        assert lines[0] == ["NAME", "BYTES", "MODE", "CLIENTS", "DEVICE"] and lines[1][:4] == ["disk", str(SIZE), "rw", "1"]


@test("manage: add and remove change what clients find; the clients of others notice nothing")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as other:
        other.go("disk")
        assert tell(folder, "add", "new=memory:1M") == ("", "")
        with running.client() as client:
            client.go("new")
            assert client.write(0, b"x" * 512) == 0
            tell(folder, "remove", "new")
            assert client.is_closed()
        with running.client() as client:
            assert client.final(nbd.GO, nbd.go_body("new")) == nbd.ERR["UNKNOWN"]
        assert list(listed(folder)) == ["disk"] and other.ping()
        tell(folder, "add", "new=memory:2M")
        with running.client() as client:
            assert client.go("new").size == 2 << 20


@test("manage: remove answers the requests that have come before it sends their client off")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        client.go("disk")
        for number in range(50):
            client.request(nbd.WRITE, number * 512, 512, payload=bytes([number]) * 512)
            assert client.error() == 0
        tell(folder, "remove", "disk")
        assert client.is_closed()
    assert (folder / "disk.img").read_bytes()[:50 * 512] == b"".join(bytes([number]) * 512 for number in range(50))


@test("manage: resize is seen by clients that are there")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running, running.client() as client:
        client.go("disk")
        tell(folder, "resize", "disk", "2M")
        assert client.read(2 * SIZE - 512, 512) == bytes(512) and listed(folder)["disk"]["bytes"] == 2 * SIZE
        tell(folder, "resize", "disk", 4096)
        assert client.do(nbd.CACHE, 4096, 1) == nbd.EINVAL


@test("manage: stats count requests, bytes and errors, also of clients that have gone")
def _(folder):
    with server(folder, f"disk={image(folder)}", "idle=memory:1M", options=["--workers", "2"]) as running:
        for _ in range(3):
            with running.client() as client:
                client.go("disk")
                client.write(0, b"x" * 1000)
                client.read(0, 500)
                assert client.do(nbd.TRIM, SIZE, 1) == nbd.EINVAL
        found = listed(folder, "stats")
        for kind, count in (("read", 3), ("write", 3), ("other", 0)):
            latency = found["disk"]["latency"][kind]
            assert latency["count"] == count, "what is refused without asking the device has no latency"
            shares = [latency[f"{share}_us"] for share in ("p50", "p90", "p99", "p999", "max")]
            assert shares == sorted(shares) and shares[0] > 0 if count else set(shares) == {None}, shares
        del found["disk"]["latency"]
        assert found["disk"] | {"clients": 0} == {"name": "disk", "clients": 0, "requests": 9, "bytes_read": 1500,
                                                  "bytes_written": 3000, "errors": 3}, found
        assert found["idle"]["requests"] == 0
        assert tell(folder, "stats")[0].splitlines()[0].split("\t")[0] == "NAME"


@test("manage: latencies are counted once for each request, whoever answers it")
def _(folder):
    path = sparse(folder, 4 << 20, (0, 1 << 20), (2 << 20, 1 << 20))
    with server(folder, f"disk={path}", "memory=memory:4M") as running:
        for name in ("disk", "memory"):
            with running.client() as client:
                client.structured().go(name)
                for length in (0, 100, 300_000, 4 << 20):
                    client.read(0, length)
                for length in (0, 100, 1 << 20):
                    assert client.write(0, bytes(length)) == 0
                assert client.write(0, b"x" * 5000, nbd.FUA) == 0
                for command in (nbd.FLUSH, nbd.CACHE, nbd.TRIM, nbd.WRITE_ZEROES, nbd.WRITE_ZEROES):
                    assert client.do(command, 0, 0 if command == nbd.FLUSH else 8192) == 0
            counts = {kind: latency["count"] for kind, latency in listed(folder, "stats")[name]["latency"].items()}
            assert counts == {"read": 4, "write": 4, "other": 5}, (name, counts)


@test("manage: clients lists who is there, and what was done for each")
def _(folder):
    with server(folder, "one=memory:1M", "two=memory:1M", unix=False) as running:
        with running.client() as first, running.client() as second, running.client() as other, running.client():
            first.go("two")
            second.go("two")
            other.go("one")
            assert second.write(0, bytes(4096)) == 0 and second.read(0, 512) == bytes(512) and second.do(nbd.TRIM, 1 << 20, 1) == nbd.EINVAL
            found = json.loads(tell(folder, "clients", "--json")[0])
            assert all(isinstance(client.pop("seconds"), int) for client in found)
            nobody = {"client": "127.0.0.1", "tls": False, "requests": 0, "bytes_read": 0, "bytes_written": 0, "errors": 0}
            assert found == [{"export": "one"} | nobody, {"export": "two"} | nobody,
                             {"export": "two"} | nobody | {"requests": 3, "bytes_read": 512, "bytes_written": 4096, "errors": 1}], found
            lines = [line.split("\t") for line in tell(folder, "clients")[0].splitlines()]
            assert lines[0] == ["EXPORT", "CLIENT", "TLS", "SECONDS", "REQUESTS", "READ", "WRITTEN", "ERRORS"]
            assert lines[3][:3] == ["two", "127.0.0.1", "no"] and lines[3][4:] == ["3", "512", "4096", "1"]
        until(lambda: json.loads(tell(folder, "clients", "--json")[0]) == [], "they have gone")


@test("manage: clients names users, and those whom TLS vouches for")
def _(folder):
    authority = Authority(folder)
    alice = authority.sign("alice", CLIENT)
    with secure_server(folder, "disk=memory:1M", options=["--tls-verify-peer"], authority=authority) as running, running.client() as client:
        secured(client, authority.context(alice)).go("disk")
        found = json.loads(tell(folder, "clients", "--json")[0])
        assert [(entry["client"], entry["tls"]) for entry in found] == [(f"user {os.geteuid()} as alice", True)], found


@test("manage: rebuild puts a new device in a mirror, while clients read and write")
def _(folder):
    first, second = image(folder, name="first"), image(folder, name="second")
    new = sparse(folder, SIZE, name="new")
    with server(folder, f"disk=mirror:{first},{second}", "single=memory:1M") as running, running.client() as client:
        client.structured().go("disk")
        os.truncate(first, 0)
        assert client.read(0, SIZE) == second.read_bytes(), "the other part goes on"
        assert listed(folder)["disk"]["device"] == f"mirror of file {first} (failed) and file {second} (working)"
        rebuilding = threading.Thread(target=tell, args=(folder, "rebuild", "disk", 1, new))
        rebuilding.start()
        rounds = 0
        while rebuilding.is_alive() or rounds < 50:
            assert client.write(rounds * 4099 % (SIZE - 3000), bytes([rounds % 251]) * 3000) == 0
            rounds += 1
        rebuilding.join()
        assert listed(folder)["disk"]["device"] == f"mirror of file {new} (working) and file {second} (working)"
        assert client.do(nbd.FLUSH) == 0
        assert new.read_bytes() == second.read_bytes() == client.read(0, SIZE)
        os.truncate(second, 0)
        assert client.read(0, SIZE) == new.read_bytes(), "it stands for the one that fails now"
        for words, part in ((("single", 1, new), "is no mirror"), (("disk", 3, sparse(folder, SIZE, name="spare")), "no other device"), (("disk", "x", new), "is no part"),
                            (("disk", 2, sparse(folder, 5, name="small")), "too small"), (("disk", 2, folder / "nowhere"), "is missing"),
                            (("nothing", 1, new), "no export 'nothing'")):
            one_line(tell(folder, "rebuild", *words, expect=1)[1], part)


@test("manage: what can't be done is named, and changes nothing")
def _(folder):
    path = image(folder)
    with server(folder, f"disk={path}", f"row=concat:{path},{path}"):
        for words, part in ((("remove", "nothing"), "no export 'nothing'"), (("resize", "nothing", "1M"), "no export"),
                            (("resize", "disk", "much"), "no size"), (("resize", "row", "1M"), "can't change"),
                            (("add", "disk=memory:1M"), "already"), (("add", f"x={folder}/nothing"), "missing"),
                            (("add", "x="), "no device")):
            one_line(tell(folder, *words, expect=1)[1], part)
        assert list(listed(folder)) == ["disk", "row"]
    one_line(tell(folder, "ls", expect=2)[1], "no server answers", "--manage")


@test("manage: --manage names the socket, so that a host can have several servers")
def _(folder):
    with server(folder, "one=memory:1M", options=["--manage", f"{folder}/m"]):
        found = json.loads(tell(folder, "ls", "--json", "--manage", f"{folder}/m")[0])
        assert [entry["name"] for entry in found] == ["one"]
        assert not os.path.exists(folder / "runtime/export.sock")
    assert not (folder / "m").exists()


@test("manage: other users are not listened to")
def _(folder):
    needs_root("to be another user")
    with server(folder, "one=memory:1M", options=["--manage", f"{folder}/m"]):
        os.chmod(folder / "m", 0o777)
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(nbd.WATCHDOG)
            pid = os.fork()
            if pid == 0:
                try:
                    os.setuid(65534)
                    channel.connect(str(folder / "m"))
                    channel.sendall(b"ls\0")
                    channel.shutdown(socket.SHUT_WR)
                    os._exit(0 if channel.recv(100) == b"" else 1)
                except ConnectionError:
                    os._exit(0)
                except BaseException:
                    os._exit(2)
            assert os.waitpid(pid, 0)[1] == 0
        tell(folder, "ls", "--manage", f"{folder}/m")


@test("manage: tools that say nothing, too much or nonsense keep nobody from anything")
def _(folder):
    with server(folder, f"disk={image(folder)}") as running:
        path = host(folder)["SKEIN_DIR"] + "/export.sock"
        held = []
        for content in (b"", b"ls", b"x" * 200_000, b"\0\0\0", b"add\0\xff\xfe\0", b"ls\0more\0"):
            channel = socket.socket(socket.AF_UNIX)
            channel.connect(path)
            try:
                channel.sendall(content)
                if content:
                    channel.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass
            held.append(channel)
        assert list(listed(folder)) == ["disk"]
        with running.client() as client:
            assert client.go("disk").ping()
        for channel in held:
            channel.close()
