"""Starting programs and ending them: each in a process group of its own, only those ever signalled."""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def take_charge():
    """Makes us the parent of every orphan below us, so that none escapes the 'nothing left' check.

    And when we are told to end, we end what we started first.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))


def descendants():
    """Every process below this one as {pid: name}; reaps the dead among our adopted children."""
    parents, names = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue  # it has just ended
        state, parent = rest.split()[:2]
        pid = int(entry.name)
        if state == "Z":
            if int(parent) == os.getpid():
                os.waitpid(pid, os.WNOHANG)
            continue
        parents[pid], names[pid] = int(parent), name
    below = set()
    found = {os.getpid()}
    while found:
        found = {pid for pid, parent in parents.items() if parent in found}
        below |= found
    return {pid: names[pid] for pid in below}


def _wait_for_descendants(patience):
    """Returns those that are still there after so many seconds."""
    end = time.monotonic() + patience
    while (left := descendants()) and time.monotonic() < end:
        time.sleep(0.02)
    return left


class Processes:
    """The programs that one test started, their output kept in files of `folder`."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, argv, environment=None, stdin=subprocess.DEVNULL):
        number = len(self.started)
        base = self.folder / f"{number}-{os.path.basename(str(argv[0]))}"
        with open(f"{base}.out", "wb") as out, open(f"{base}.err", "wb") as err:
            process = subprocess.Popen([str(word) for word in argv], stdin=stdin, stdout=out, stderr=err,
                                       env=os.environ | (environment or {}), cwd=self.folder, start_new_session=True)
        process.out, process.err = pathlib.Path(f"{base}.out"), pathlib.Path(f"{base}.err")
        self.started.append(process)
        return process

    def stop(self, process, patience=5):
        """Asks the program to end. Returns a complaint, or None."""
        complaint = None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                complaint = f"{pathlib.Path(process.args[0]).name} ({process.pid}) did not end on SIGTERM"
                self._kill_group(process)
        return complaint

    def stop_all(self):
        """Ends everything, newest first. Returns what would not go by itself."""
        complaints = [self.stop(process) for process in reversed(self.started)]
        self.started.clear()
        left = _wait_for_descendants(3)
        complaints += [f"{name} ({pid}) was left behind" for pid, name in left.items()]
        while left:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            left = _wait_for_descendants(1)
        return [complaint for complaint in complaints if complaint]

    def _kill_group(self, process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def wait_until_listening(address, process, patience=10):
    """Returns once someone listens on the port of that number, or on the Unix socket of that path.

    Looks it up in /proc: a trial connection would be counted.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {tail(process.err)}")
        if (_listens if isinstance(address, int) else _listens_at_path)(address):
            time.sleep(0.05)  # the program may have more to set up right after listen
            return
        time.sleep(0.01)
    raise AssertionError(f"nobody listens on {address} after {patience} s: {tail(process.err)}")


def _listens(port):
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        with open(table) as lines:
            for line in lines.readlines()[1:]:
                local, _, state = line.split()[1:4]
                if state == "0A" and int(local.split(":")[1], 16) == port:
                    return True
    return False


def _listens_at_path(path):
    with open("/proc/net/unix") as lines:
        return any(line.split()[3] == "00010000" and line.split()[-1] == str(path) for line in lines.readlines()[1:])


def tail(path, size=300):
    return " ".join(path.read_bytes()[-size:].decode(errors="replace").split()) or "(no message)"
