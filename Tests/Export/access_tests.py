"""Who may have which export: by address, user, certificate and key, and what the others are told."""

import os
import random

import nbd
from certificates import CLIENT, Authority
from harness import test
from running import Running, needs_root
from server import image, secure_server, server
from tls_tests import secured


def rules(*texts):
    return [word for text in texts for word in ("--allow", text)]


def names(client):
    return [data[4:4 + int.from_bytes(data[:4])].decode() for kind, data in client.option(nbd.LIST) if kind == nbd.SERVER]


def answer(client, name):
    """How GO is answered at last."""
    return client.final(nbd.GO, nbd.go_body(name))


def is_entered(running, name, **more):
    """Whether EXPORT_NAME, which can't say an error, leads in."""
    with running.client(flags=3, **more) as client:
        client.put(nbd.struct.pack(">QII", nbd.OPTION, nbd.EXPORT_NAME, len(name)) + name.encode())
        try:
            client.take(10)
            return True
        except nbd.Closed:
            return False


@test("access: by address; others are told so, see nothing of it in LIST, and can't come by any option")
def _(folder):
    with server(folder, f"here={image(folder)}", "there=memory:1M", "any=memory:1M", unix=False,
                options=rules("here=address:127.0.0.0/8", "there=address:10.0.0.0/8", "there=address:::2")) as running:
        with running.client() as client:
            assert names(client) == ["here", "any"]
            for option, body in [(nbd.GO, nbd.go_body("there")), (nbd.INFO, nbd.go_body("there"))]:
                assert client.final(option, body) == nbd.ERR["POLICY"]
            client.structured()
            for option in (nbd.LIST_META_CONTEXT, nbd.SET_META_CONTEXT):
                assert client.final(option, nbd.context_body("there", "base:allocation")) == nbd.ERR["POLICY"]
            assert answer(client, "here") == nbd.ACK
        assert is_entered(running, "here") and is_entered(running, "any") and not is_entered(running, "there")


@test("access: rules without an export are for those that have none of their own; the first export is asked for by no name too")
def _(folder):
    with server(folder, "first=memory:1M", "second=memory:1M", unix=False,
                options=rules("address:192.0.2.1", "second=anyone")) as running, running.client() as client:
        assert answer(client, "first") == answer(client, "") == nbd.ERR["POLICY"]
        assert names(client) == ["second"]
        assert answer(client, "second") == nbd.ACK


@test("access: an address of IPv4 is itself where the server listens on IPv6")
def _(folder):
    with Running(folder, "export", "disk=memory:1M", "--listen", "nbd://:0", *rules("address:127.0.0.1"), ready="stdout") as running:
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]"):
            with nbd.Client(f"nbd://{host}:{running.port}") as client:
                assert answer(client, "disk") == nbd.ACK


@test("access: by the user of a Unix socket, whom TCP doesn't tell")
def _(folder):
    words = rules("mine=user:root" if os.geteuid() == 0 else f"mine=user:{os.geteuid()}", "other=user:65533", "remote=address:0.0.0.0/0")
    devices = ("mine=memory:1M", "other=memory:1M", "remote=memory:1M")
    with server(folder, *devices, options=words) as running, running.client() as client:
        assert names(client) == ["mine"]
        assert answer(client, "other") == answer(client, "remote") == nbd.ERR["POLICY"]
        assert answer(client, "mine") == nbd.ACK
    with server(folder, *devices, options=words, unix=False) as running, running.client() as client:
        assert names(client) == ["remote"]
        assert answer(client, "mine") == nbd.ERR["POLICY"]


@test("access: another user of the machine is refused what is root's")
def _(folder):
    needs_root("to be somebody else")
    with server(folder, "mine=memory:1M", "theirs=memory:1M", options=rules("mine=user:root", "theirs=user:65533")) as running:
        os.chmod(folder, 0o755)
        os.chmod(folder / "socket", 0o777)
        os.seteuid(65533)
        try:
            with running.client() as client:
                assert names(client) == ["theirs"]
                assert answer(client, "mine") == nbd.ERR["POLICY"]
                assert answer(client, "theirs") == nbd.ACK
        finally:
            os.seteuid(0)


@test("access: exports for clients with TLS say so to the others, and open under it")
def _(folder):
    options = ["--tls", "offered", *rules("secret=tls", "near=tls+address:127.0.0.1", "far=tls+address:192.0.2.0/24")]
    with secure_server(folder, "open=memory:1M", "secret=memory:1M", "near=memory:1M", "far=memory:1M", options=options,
                       unix=False) as running:
        with running.client() as client:
            assert names(client) == ["open", "secret", "near"]
            assert answer(client, "secret") == answer(client, "near") == nbd.ERR["TLS_REQD"]
            assert answer(client, "far") == nbd.ERR["POLICY"]
            secured(client, running.authority.context())
            assert names(client) == ["open", "secret", "near"]
            assert answer(client, "far") == nbd.ERR["POLICY"]
            assert answer(client, "near") == nbd.ACK
        assert is_entered(running, "open") and not is_entered(running, "secret")


@test("access: by the names in a client's certificate, its common name and its hosts'")
def _(folder):
    authority = Authority(folder)
    alice = authority.sign("alice", CLIENT + "dns_name = one.example\ndns_name = two.example\n")
    bob = authority.sign("bob", CLIENT)
    options = ["--tls-verify-peer", *rules("a=certificate:alice", "b=certificate:bob", "two=certificate:two.example",
                                           "both=certificate:alice", "both=certificate:bob", "none=certificate:alice+address:192.0.2.1")]
    devices = [f"{name}=memory:1M" for name in ("a", "b", "two", "both", "none")]
    with secure_server(folder, *devices, options=options, authority=authority) as running:
        for client_certificate, seen in [(alice, ["a", "two", "both"]), (bob, ["b", "both"])]:
            with running.client() as client:
                secured(client, authority.context(client_certificate))
                assert names(client) == seen
                for name in ("a", "b", "two", "both", "none"):
                    assert name in seen or answer(client, name) == nbd.ERR["POLICY"], name
                assert answer(client, seen[0]) == nbd.ACK


@test("access: rules that say nothing, or need what isn't there, are refused at the start")
def _(folder):
    listen = ["--listen", f"nbd+unix:///?socket={folder}/socket"]
    for rule, says in [("nobody", "says nothing about a client"), ("disk=address:1.2.3", "says nothing"), ("address:1.2.3.4/33", "says nothing"),
                       ("user:nobody-of-that-name", "says nothing"), ("certificate:", "says nothing"), ("tls+", "says nothing"),
                       ("", "says nothing"), ("disc=anyone", "none of the exports"), ("tls", "takes --tls-certificates"),
                       ("disk=certificate:alice", "takes --tls-certificates")]:
        with Running(folder, "export", "disk=memory:1M", *listen, "--allow", rule) as running:
            assert says in running.finish(1)[1], rule
    authority = Authority(folder)
    with Running(folder, "export", "disk=memory:1M", *listen, "--tls-certificates", authority.folder,
                 *rules("disk=certificate:alice")) as running:
        assert "takes --tls-verify-peer" in running.finish(1)[1]


@test("access: what was allowed works as without rules")
def _(folder):
    with server(folder, f"disk={image(folder)}", options=rules("disk=anyone")) as running, running.client() as client:
        client.structured().allocation("disk").go("disk")
        assert client.read(0, 4096) == random.Random(7).randbytes(4096)
