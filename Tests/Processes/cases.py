"""What the files of cases share: each case is a function, run in a process of its own under `skein run`."""

import sys

WATCHDOG = 30
NOT_HERE = 77  # how a case ends that can't run on this machine
CASES = {}


def case(sentence):
    def register(function):
        CASES[function.__name__] = (sentence, function)
        return function
    return register


def expect(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"expected {wanted!r}, got {got!r} {what}")


def not_here(reason):
    """Ends the case: it can't run on this machine."""
    print(reason)
    sys.exit(NOT_HERE)
