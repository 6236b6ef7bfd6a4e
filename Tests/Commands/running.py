"""Commands in the background: started until they are ready, fed, killed, waited for."""

import contextlib
import os
import select
import signal
import subprocess
import time

from harness import SKEIN, WATCHDOG_SECONDS, Skip


def host(folder):
    """The environment of one host: its runtime folder lies in the scratch folder."""
    runtime = folder / "runtime"
    if not runtime.exists():
        runtime.mkdir()
        runtime.chmod(0o1777)
    return {key: value for key, value in os.environ.items() if not key.startswith("SKEIN_")} | {"SKEIN_DIR": str(runtime)}


class Running:
    """A process with pipes. `ready` names the stream on which it says so."""

    def __init__(self, folder, *words, ready=None, prefix=(), **options):
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        self.process = subprocess.Popen([*prefix, SKEIN, *map(str, words)], env=host(folder), **(streams | options))
        self.words = words
        if ready:
            line = self.line(ready)
            assert line.startswith("ready "), f"{words} said {line!r}: {self.finish(None)}"
            self.address = line.split()[1]
            self.port = self.address.rsplit(":", 1)[1]

    def line(self, stream="stderr"):
        """The next line of a stream, as text."""
        text = b""
        descriptor = getattr(self.process, stream).fileno()
        deadline = time.monotonic() + WATCHDOG_SECONDS
        while not text.endswith(b"\n"):
            assert select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0], f"{self.words}: no line came"
            byte = os.read(descriptor, 1)
            if not byte:
                break
            text += byte
        return text.decode().rstrip("\n")

    def end_input(self, content=b""):
        """Gives it the rest of its standard input."""
        stream, self.process.stdin = self.process.stdin, None
        try:
            stream.write(content)
            stream.close()
        except BrokenPipeError:
            pass

    def finish(self, expect=0, input=None):
        """Feeds it, waits for its end. Returns standard output as bytes and standard error as text."""
        out, err = self.process.communicate(input, timeout=WATCHDOG_SECONDS)
        err = (err or b"").decode(errors="replace")
        code = self.process.returncode
        assert expect is None or code == expect, f"{self.words} ended with {code}, not {expect}: {out!r:.300} {err}"
        return out or b"", err

    def signal(self, number):
        self.process.send_signal(number)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self.process.wait(WATCHDOG_SECONDS)


def until(condition, what):
    """Waits until it holds."""
    deadline = time.monotonic() + WATCHDOG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it never came: {what}"
        time.sleep(0.005)


def needs_root(why):
    if os.geteuid() != 0:
        raise Skip(f"needs root {why}")


KILL, TERMINATE, INTERRUPT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
