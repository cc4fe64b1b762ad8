"""The units under a real systemd, on a kernel with IPVS: sandboxed as they say, and everything still works.

What is seen is in `systemd_inside`; this boots a guest for it. It is the same on every machine: a guest's systemd and
kernel are Debian's.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.beside, pytest.mark.timeout(660)]
LIMIT_S = 540
LAST_FACT = "* systemctl stop lets go of the VIP and leaves the table"


def test_both_units_do_their_whole_work_in_their_sandbox() -> None:
    inside = [sys.executable, "-m", "tests.lab.systemd_inside"]
    words = [sys.executable, "-m", "tests.lab.systemd_guest", "--timeout", str(LIMIT_S), "--", *inside]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S + 60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert LAST_FACT in done.stdout.replace("\r", "")
