from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hawatch.agent.priority import PRIORITY, fork_promptly, run_promptly
from hawatch.agent.process import keep_capabilities

KILOBYTE = 1024
NOT_LOCKED = "its memory is not locked (RLIMIT_MEMLOCK is limited): a machine that swaps makes this process late"


def locked_kb() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck"))


def report() -> None:
    """Be promptly run, and print what came of it."""
    if sys.argv[1] == "managed":
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(3))
    if sys.argv[1] != "rich":
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 * KILOBYTE, 64 * KILOBYTE))
        keep_capabilities([])
    problems = run_promptly()
    policies: list[int] = []
    thread = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    print(repr((problems, os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, policies, locked_kb() > 0)))


def in_process(word: str) -> tuple[list[str], int, int, list[int], bool]:
    program = "from tests.unit.agent.test_priority import report; report()"
    done = subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True, check=True)
    return eval(done.stdout)


@pytest.mark.netns
def test_the_core_and_its_threads_come_first_and_stay_in_memory() -> None:
    assert in_process("rich") == ([], os.SCHED_RR, PRIORITY, [os.SCHED_RR], True)


@pytest.mark.netns
def test_who_may_not_is_told_and_goes_on() -> None:
    problems, policy, _, _, locked = in_process("poor")
    assert (policy, locked) == (os.SCHED_OTHER, False)
    assert problems == [
        "it runs without real-time priority (Operation not permitted): a busy machine makes this process late",
        NOT_LOCKED,
    ]


@pytest.mark.netns
def test_what_the_service_manager_has_seen_to_is_left_alone() -> None:
    problems, policy, priority, _, _ = in_process("managed")
    assert (problems, policy, priority) == ([NOT_LOCKED], os.SCHED_RR, 3)


def fork_and_report() -> None:
    """Print how the parent and a child of it are run."""
    fork_promptly()
    child = subprocess.run(
        [sys.executable, "-S", "-c", "import os; print(os.sched_getscheduler(0))"], capture_output=True, check=True
    )
    print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, int(child.stdout))


@pytest.mark.netns
def test_the_keeper_comes_after_the_core_and_its_children_are_ordinary() -> None:
    program = "from tests.unit.agent.test_priority import fork_and_report; fork_and_report()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    policy, priority, of_child = map(int, done.stdout.split())
    assert policy & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR
    assert priority < PRIORITY
    assert of_child == os.SCHED_OTHER
