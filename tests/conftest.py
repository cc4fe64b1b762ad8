"""Tests that change what is the whole machine's (mark: guest) run in a guest, wherever they are started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lab.uml import in_guest

GUEST_LIMIT_S = 600


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Have a guest run a test that this machine must not."""
    if pyfuncitem.get_closest_marker("guest") is None or in_guest():
        return None
    argv = [sys.executable, "-m", "tests.lab.uml", "--always", "--timeout", str(GUEST_LIMIT_S), "--"]
    argv += [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    done = subprocess.run(argv, cwd=pyfuncitem.config.rootpath, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    return True
