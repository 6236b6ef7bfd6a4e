"""What curl does against any web server that hands out the documents."""


def fetch(t, original, user=None):
    """One file by curl, compared."""
    copy = t.folder / f"copy-of-{original.name}"
    t.client(["curl", "-sS", "--fail", "-o", copy, url(t, original)], user)
    t.arrived(copy, original)


def fetch_small_ones_on_one_connection(t):
    targets = [word for path in t.documents.small
               for word in ("-o", t.folder / f"copy-of-{path.name}", url(t, path))]
    printed = t.client(["curl", "-sS", "--fail", "-w", "%{num_connects}\\n", *targets])
    for path in t.documents.small:
        t.arrived(t.folder / f"copy-of-{path.name}", path)
    connections = sum(map(int, printed.split()))
    assert connections == 1, f"curl made {connections} connections where keep-alive needs one"


def fetch_side_by_side(t):
    targets = [word for number in range(8)
               for word in ("-o", t.folder / f"copy-{number}", url(t, t.documents.middle))]
    t.client(["curl", "-sS", "--fail", "--parallel", "--parallel-immediate", *targets])
    for number in range(8):
        t.arrived(t.folder / f"copy-{number}", t.documents.middle)


def url(t, path):
    return f"http://127.0.0.1:{t.port}/{path.name}"
