"""The limit of open files; each test in a process of its own, for a limit cannot be raised again."""

from __future__ import annotations

import os
import resource

import pytest

from hawatch.agent.limits import CHECKS_AT_ONCE, FILES_BESIDE_CHECKS, files_wanted, raise_file_limit
from hawatch.errors import LocalError
from hawatch.model import Check, Plan


def plan(count: int) -> Plan:
    check = Check("c", "tcp", {}, "192.0.2.1", 80, 10**9, 10**9, 1, 1)
    return Plan((), {str(number): check for number in range(count)})


@pytest.mark.parametrize(("checks", "wanted"), [(0, 0), (10, 10), (CHECKS_AT_ONCE + 1, CHECKS_AT_ONCE)])
def test_each_check_needs_one(checks: int, wanted: int) -> None:
    assert files_wanted(plan(checks)) == FILES_BESIDE_CHECKS + wanted


@pytest.mark.parametrize(
    ("before", "after"), [((64, 4096), (260, 4096)), ((4096, 4096), (4096, 4096)), ((64, 100), None)]
)
def test_it_is_raised_as_far_as_is_needed(before: tuple[int, int], after: tuple[int, int] | None) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            raise_file_limit(plan(100))
            status = int(resource.getrlimit(resource.RLIMIT_NOFILE) != after)
        except LocalError as error:
            status = int(after is not None or "at most 100 files" not in str(error))
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
