"""Runs one module of CPython's own tests and tells how each test ended, also past hangs and crashes."""

import re
import time

START = re.compile(r"^(\w+) \(([\w.]+)\)")
END = re.compile(r"(?:^|\.\.\. )(ok|FAIL|ERROR|skipped .*|expected failure|unexpected success)$")
SECTION = re.compile(r"^(FAIL|ERROR): (\w+) \(([\w.]+)\)")
PASSES = ("ok", "expected failure")
RESTARTS = 30


def run(module, prefix, processes, environment, stall_seconds, limit_seconds, ignored=()):
    """Returns {test id: how it ended}, in words such as ok, FAIL, ERROR, skipped, hang, crash.

    A test that hangs or kills the interpreter is left out when the others are taken up again.
    """
    results = dict.fromkeys(ignored, "left out")
    end = time.monotonic() + limit_seconds
    for _ in range(RESTARTS):
        listed = processes.folder / "ignored"
        listed.write_text("\n".join(results))
        ignore = ["--ignorefile", listed] if results else []
        process = processes.start([*prefix, "/usr/bin/python3.11", "-m", "test", "-v", "-u", "network", *ignore,
                                   "--tempdir", processes.folder, module], environment)
        finished = _wait(process, stall_seconds, end)
        processes.stop_all()
        found, interrupted = parse(process.out.read_text(errors="replace"))
        results |= found
        if interrupted is None:
            break
        results[interrupted] = "crash" if finished else "hang"
        if time.monotonic() > end:
            break
    return results


def parse(text):
    """The results of one verbose run, and the id of the test in which it broke off, or None."""
    results, current, complete = {}, None, False
    for line in text.splitlines():
        if section := SECTION.match(line):
            if section[3].endswith("." + section[2]):
                results[section[3]] = section[1]
            continue
        if line.startswith("Ran "):
            complete = True
        start = START.match(line)
        if start and start[2].endswith("." + start[1]):
            current = start[2]
            # What a test prints may swallow its 'ok'; a failure has a section of its own at the end.
            results.setdefault(current, "ok")
        if current and (ending := END.search(line)):
            results[current] = ending[1].split()[0] if ending[1].startswith("skipped") else ending[1]
            current = None
    if complete or current is None:
        return results, None
    return results, current


def _wait(process, stall_seconds, end):
    """Whether the process ended by itself: it may not fall silent for long, nor go on for ever."""
    size, since = -1, time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        if (size_now := process.out.stat().st_size) != size:
            size, since = size_now, now
        if now - since > stall_seconds or now > end:
            return False
        time.sleep(0.1)
    return True
