"""Relays where the system gives them little: behind filters, and without descriptors."""

import errno
import pathlib
import subprocess
import sys

from cases import WATCHDOG, case, expect
from filters import REFUSE, deny

MISSING = 0x00050000 | errno.ENOSYS


@case("where close_range has been missing from the start, a relay keeps none of its maker's descriptors")
def no_close_range():
    for answer in (MISSING, REFUSE):
        ran = subprocess.run([sys.executable, str(pathlib.Path(__file__).with_name("processes.py")), "intended"],
                             preexec_fn=lambda: deny(answer, "close_range"), capture_output=True, timeout=WATCHDOG)
        expect(ran.returncode, 0, ran.stderr.decode())
