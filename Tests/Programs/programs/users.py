"""The server as one user, the client as another."""

from support.trial import test, with_defaults

from . import python_http, web


@test("python's http.server as www-data serves curl as nobody", needs=["curl", "setpriv"])
def server_and_client(t):
    t.folder.chmod(0o777)  # curl as nobody writes here
    python_http.serve(t, user="www-data")
    web.fetch(t, t.documents.big, user="nobody")


@test("python's http.server as nobody serves curl as root", needs=["curl", "setpriv"])
def client_is_root(t):
    python_http.serve(t, user="nobody")
    web.fetch(t, t.documents.big)


@test("python's http.server as root serves curl as nobody", needs=["curl", "setpriv"])
def server_is_root(t):
    t.folder.chmod(0o777)
    python_http.serve(t)
    web.fetch(t, t.documents.big, user="nobody")


@test("with defaults only: python's http.server as www-data serves curl as nobody", needs=["curl", "setpriv"])
@with_defaults
def defaults(t):
    server_and_client(t)


@test("with defaults only: python's http.server as www-data serves curl as root", needs=["curl", "setpriv"])
@with_defaults
def defaults_to_root(t):
    python_http.serve(t, user="www-data")
    web.fetch(t, t.documents.big)
