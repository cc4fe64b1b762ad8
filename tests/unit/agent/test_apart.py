from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

from hawatch.agent.apart import READ_BYTES, Apart, do_apart
from hawatch.errors import ConfigError, LocalError


def test_what_the_work_returns_comes_back_and_nothing_else() -> None:
    seen: list[int] = []

    def work() -> tuple[int, bytes]:
        seen.append(1)
        return os.getpid(), bytes(3 * READ_BYTES)

    pid, data = do_apart(work)
    assert pid != os.getpid()
    assert len(data) == 3 * READ_BYTES
    assert seen == []


def test_its_error_comes_back_with_its_sentence() -> None:
    def work() -> None:
        raise ConfigError("no such thing", (object(),)) from OSError()

    with pytest.raises(ConfigError, match="no such thing"):
        do_apart(work)


def crash() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("work", [crash, lambda: os._exit(0), lambda: os.kill(os.getpid(), 9), lambda: sys.exit(3)])
def test_a_process_that_comes_to_grief_is_told(work: Callable[[], None]) -> None:
    with pytest.raises(LocalError, match="ended with status"):
        do_apart(work)


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    apart = Apart(lambda: 5)
    while not apart.feed():
        pass
    assert apart.result() == 5
    assert os.listdir("/proc/self/fd") == before


def test_where_no_process_can_be_made_that_is_told_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fail)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(LocalError, match="no process to read the configuration in: Resource temporarily unavailable"):
        Apart(lambda: 5)
    assert os.listdir("/proc/self/fd") == before


def test_one_that_hangs_can_be_given_up() -> None:
    before = os.listdir("/proc/self/fd")
    apart = Apart(lambda: time.sleep(600))
    apart.give_up()
    assert os.listdir("/proc/self/fd") == before
    with contextlib.suppress(ChildProcessError):  # it was gone at once
        assert os.waitpid(apart.pid, 0)[1] == signal.SIGKILL
