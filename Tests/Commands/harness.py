"""What the tests of the command share: sentences, a scratch folder, and the command itself."""

import os
import pathlib
import subprocess
import sys
import traceback

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
SKEIN = pathlib.Path(os.environ.get("SKEIN_BIN") or CHECKOUT / "build/bin/skein").absolute()
WATCHDOG_SECONDS = 60
TESTS = []


class Skip(Exception):
    """The test can't run here."""


def test(sentence):
    """Registers a function of a scratch folder as a test."""
    def register(function):
        TESTS.append((sentence, function))
        return function
    return register


def skein(*words, expect=0, **environment):
    """Runs the command to its end. A variable of None is unset. Returns its two outputs as text."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("SKEIN_")} | environment
    result = subprocess.run([SKEIN, *words], capture_output=True, timeout=WATCHDOG_SECONDS,
                            env={key: str(value) for key, value in variables.items() if value is not None})
    out, err = (text.decode(errors="surrogateescape") for text in (result.stdout, result.stderr))
    assert result.returncode == expect, f"{words} ended with {result.returncode}, not {expect}: {out}{err}"
    return out, err


def one_line(text, *parts):
    """The text is one line for the user, with these words in it."""
    assert text.count("\n") == 1 and text.startswith("skein: "), f"not one line of skein: {text!r}"
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"


def compile_c(path, *options, source="int main(void) { return 7; }"):
    result = subprocess.run(["gcc", "-x", "c", "-", "-o", path, *options], input=source, text=True, capture_output=True)
    if result.returncode:
        raise Skip(f"gcc {' '.join(options)}: {result.stderr.strip().splitlines()[-1]}")
    return path


def run_all(folder):
    passed = failed = skipped = 0
    for number, (sentence, function) in enumerate(TESTS):
        scratch = folder / str(number)
        scratch.mkdir()
        try:
            function(scratch)
        except Skip as reason:
            skipped += 1
            print(f"skip - {sentence}: {reason}")
            continue
        except Exception as error:  # one broken test must not end the others
            failed += 1
            print(f"not ok - {sentence}: {error}")
            if not isinstance(error, AssertionError):
                traceback.print_exc(file=sys.stdout)
        else:
            passed += 1
            print(f"ok - {sentence}")
        sys.stdout.flush()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0
