"""Connection synchronisation in the real kernel, in a namespace of its own: it forbids services of mixed families."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from hawatch.actions.ipvs_sync import BACKUP, MASTER, read_sync, start_sync
from tests.lab.netns import call_in_namespace

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"hwsync{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up", "multicast", "on"], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def test_both_threads_run_and_starting_them_again_is_nothing(namespace: str) -> None:
    def work() -> None:
        problems = start_sync("none9", 8)
        assert len(problems) == 2
        assert all("on none9" in problem for problem in problems)
        assert read_sync() == {}
        assert start_sync("lo", 7) == []
        assert read_sync() == {MASTER: ("lo", 7), BACKUP: ("lo", 7)}
        assert start_sync("lo", 7) == []

    call_in_namespace(namespace, work)
